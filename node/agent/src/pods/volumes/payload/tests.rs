use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::pods::quantity::ResourceList;
use crate::pods::sources::Known;

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "1"}},
        "spec": spec,
    }))
    .unwrap()
}

fn sources() -> Sources {
    let settings =
        serde_json::from_value(json!({"data": {"a": "1", "b": "2"}, "binaryData": {"c": "AAE="}}))
            .unwrap();
    let hidden = serde_json::from_value(json!({"data": {"k": "c2VzYW1l"}})).unwrap();
    Sources {
        config_maps: [
            ("settings".to_owned(), Known::Present(Arc::new(settings))),
            ("gone".to_owned(), Known::Missing),
        ]
        .into(),
        secrets: [("hidden".to_owned(), Known::Present(Arc::new(hidden)))].into(),
        ..Sources::default()
    }
}

fn with<T>(pod: &Pod, tokens: &Tokens, make: impl FnOnce(&Material<'_>) -> T) -> T {
    let allocatable = ResourceList::new();
    let around = Surroundings {
        pod_ips: &[],
        node_ips: &["172.30.0.2".parse().unwrap()],
        allocatable: &allocatable,
    };
    make(&Material {
        pod,
        sources: &sources(),
        around: &around,
        tokens,
    })
}

fn short(payload: Result<Payload, VolumeError>) -> Result<Vec<(String, String, u32)>, String> {
    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
    payload
        .map(|payload| {
            payload
                .iter()
                .map(|(path, entry)| (path.display().to_string(), text(&entry.data), entry.mode))
                .collect()
        })
        .map_err(|error| error.to_string())
}

fn entries(list: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
    list.iter()
        .map(|(path, data, mode)| ((*path).to_owned(), (*data).to_owned(), *mode))
        .collect()
}

#[test]
fn keys_items_and_modes() {
    let pod = pod(json!({"containers": []}));
    for (source, want) in [
        (
            json!({"name": "settings"}),
            Ok(entries(&[
                ("a", "1", 0o644),
                ("b", "2", 0o644),
                ("c", "\0\u{1}", 0o644),
            ])),
        ),
        (
            json!({"name": "settings", "defaultMode": 0o400, "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o777}]}),
            Ok(entries(&[("x/y", "1", 0o400), ("z", "2", 0o777)])),
        ),
        (
            json!({"name": "settings", "items": [{"key": "none", "path": "x"}]}),
            Err("references non-existent config key: none"),
        ),
        (
            json!({"name": "settings", "optional": true, "items": [{"key": "none", "path": "x"}]}),
            Ok(vec![]),
        ),
        (json!({"name": "gone"}), Err("configmap \"gone\" not found")),
        (json!({"name": "gone", "optional": true}), Ok(vec![])),
        (
            json!({"name": "settings", "items": [{"key": "a", "path": "../x"}]}),
            Err("invalid path \"../x\": it must be relative and stay in the volume"),
        ),
        (
            json!({"name": "settings", "items": [{"key": "a", "path": "/x"}]}),
            Err("invalid path \"/x\": it must be relative and stay in the volume"),
        ),
    ] {
        let parsed = serde_json::from_value(source.clone()).unwrap();
        let got = with(&pod, &Tokens::default(), |m| short(config_map(&parsed, m)));
        assert_eq!(got, want.map_err(str::to_owned), "{source}");
    }
}

#[test]
fn a_secret() {
    let pod = pod(json!({"containers": []}));
    let parsed = serde_json::from_value(json!({"secretName": "hidden"})).unwrap();
    let got = with(&pod, &Tokens::default(), |m| short(secret(&parsed, m)));
    assert_eq!(got, Ok(entries(&[("k", "sesame", 0o644)])));
}

#[test]
fn a_projection_of_everything() {
    let source: ProjectedVolumeSource = serde_json::from_value(json!({"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "settings", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"secret": {"name": "hidden"}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}},
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o600},
        ]}},
    ]}))
    .unwrap();
    for (spec, token_mode, owner) in [
        (json!({"containers": [{"name": "c"}]}), 0o644, None),
        (
            json!({"containers": [{"name": "c"}], "securityContext": {"runAsUser": 5}}),
            0o600,
            Some(5),
        ),
        (
            json!({"containers": [{"name": "c"}], "securityContext": {"fsGroup": 5}}),
            0o600,
            None,
        ),
        (
            json!({"containers": [{"name": "c", "securityContext": {"runAsUser": 5}}, {"name": "d"}]}),
            0o644,
            None,
        ),
    ] {
        let pod = pod(spec.clone());
        let mut tokens = Tokens::default();
        let projections = source.sources.as_ref().unwrap();
        let wish = TokenWish::of(projections[0].service_account_token.as_ref().unwrap());
        tokens.insert(wish, Ok("jwt".to_owned()));
        let payload = with(&pod, &tokens, |m| projected(&source, m)).unwrap();
        assert_eq!(payload[Path::new("token")].owner, owner, "{spec}");
        assert_eq!(
            short(Ok(payload)),
            Ok(entries(&[
                ("ca.crt", "1", 0o644),
                ("k", "sesame", 0o644),
                ("labels", "a=\"1\"", 0o600),
                ("namespace", "shop", 0o644),
                ("token", "jwt", token_mode),
            ])),
            "{spec}"
        );
    }
}

#[test]
fn a_token_that_is_refused_is_an_error() {
    let pod = pod(json!({"containers": []}));
    let source: ProjectedVolumeSource =
        serde_json::from_value(json!({"sources": [{"serviceAccountToken": {"path": "token"}}]}))
            .unwrap();
    let got = with(&pod, &Tokens::default(), |m| short(projected(&source, m)));
    assert_eq!(
        got,
        Err("failed to fetch token: it was not asked for".to_owned())
    );
}

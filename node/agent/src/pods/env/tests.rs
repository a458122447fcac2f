use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::pods::quantity::ResourceList;
use crate::pods::sources::Known;
use crate::pods::volumes::Mounted;

fn sources() -> Sources {
    let settings = serde_json::from_value(json!({"data": {"mode": "fast", "size": "3"}})).unwrap();
    let hidden = serde_json::from_value(json!({"data": {"word": "c2VzYW1l"}})).unwrap();
    Sources {
        config_maps: [
            ("settings".to_owned(), Known::Present(Arc::new(settings))),
            ("gone".to_owned(), Known::Missing),
            ("late".to_owned(), Known::Unread),
        ]
        .into(),
        secrets: [
            ("hidden".to_owned(), Known::Present(Arc::new(hidden))),
            ("gone".to_owned(), Known::Missing),
        ]
        .into(),
        ..Sources::default()
    }
}

fn make(container: Value) -> Result<Vec<(String, String)>, EnvError> {
    make_with(container, &sources())
}

fn make_with(container: Value, sources: &Sources) -> Result<Vec<(String, String)>, EnvError> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [container]},
    }))
    .unwrap();
    let allocatable = ResourceList::new();
    let around = Surroundings {
        pod_ips: &["10.244.0.7".parse().unwrap()],
        node_ips: &["172.30.0.2".parse().unwrap()],
        allocatable: &allocatable,
    };
    let services = [
        ("DB_SERVICE_HOST".to_owned(), "10.96.0.9".to_owned()),
        ("SIZE".to_owned(), "service".to_owned()),
    ]
    .into();
    environment(
        &pod,
        &spec::containers(&pod)[0],
        sources,
        &services,
        &around,
    )
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn order_and_expansion() {
    let got = make(json!({
        "name": "c",
        "envFrom": [{"prefix": "CFG_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "hidden"}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(LATER)-$(CFG_mode)-$(DB_SERVICE_HOST)-$$(A)"},
            {"name": "LATER", "value": "x"},
            {"name": "A", "value": "$(A)2"},
            {"name": "SIZE", "value": ""},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
    }))
    .unwrap();
    assert_eq!(
        got,
        pairs(&[
            ("CFG_mode", "fast"),
            ("CFG_size", "3"),
            ("word", "sesame"),
            ("A", "12"),
            ("B", "1-$(LATER)-fast-10.96.0.9-$(A)"),
            ("LATER", "x"),
            ("SIZE", ""),
            ("IP", "10.244.0.7"),
            ("DB_SERVICE_HOST", "10.96.0.9"),
        ])
    );
}

#[test]
fn sources_that_are_missing() {
    let key = |kind: &str, name: &str, key: &str, optional: bool| json!({"name": "c", "env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}]});
    let whole = |kind: &str, name: &str, optional: bool| json!({"name": "c", "envFrom": [{kind: {"name": name, "optional": optional}}]});
    for (container, want) in [
        (key("configMapKeyRef", "settings", "mode", false), Ok(1)),
        (
            key("configMapKeyRef", "settings", "none", false),
            Err("couldn't find key none in ConfigMap shop/settings"),
        ),
        (key("configMapKeyRef", "settings", "none", true), Ok(0)),
        (
            key("configMapKeyRef", "gone", "k", false),
            Err("configmap \"gone\" not found"),
        ),
        (key("configMapKeyRef", "gone", "k", true), Ok(0)),
        (
            key("secretKeyRef", "hidden", "none", false),
            Err("couldn't find key none in Secret shop/hidden"),
        ),
        (
            key("secretKeyRef", "gone", "k", false),
            Err("secret \"gone\" not found"),
        ),
        (
            whole("configMapRef", "gone", false),
            Err("configmap \"gone\" not found"),
        ),
        (whole("configMapRef", "gone", true), Ok(0)),
        (
            whole("secretRef", "gone", false),
            Err("secret \"gone\" not found"),
        ),
        (whole("secretRef", "gone", true), Ok(0)),
        (
            // Optional says it may be missing, not that nobody looked.
            whole("configMapRef", "late", true),
            Err("failed to sync configmap cache: timed out waiting for the condition"),
        ),
    ] {
        let got = make(container.clone())
            .map(|env| env.len() - 2)
            .map_err(|error| error.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{container}");
    }
}

#[test]
fn variables_from_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.env"), "A='1'\nNONE=''\n").unwrap();
    std::fs::write(dir.path().join("bad.env"), "A=1\n").unwrap();
    let volume = Mounted {
        block: false,
        path: dir.path().to_owned(),
        read_only: false,
    };
    let volumes = [("v".to_owned(), volume)].into();
    let path = dir.path().display();
    let missing =
        |key: &str| format!("environment variable key {key:?} not found in file \"{path}/a.env\"");
    let parse = || Err("couldn't parse env file".to_owned());
    for (volume, file, key, optional, want) in [
        ("v", "a.env", "A", false, Ok(Some("1"))),
        ("v", "a.env", "A", true, Ok(Some("1"))),
        ("v", "a.env", "B", true, Ok(None)),
        ("v", "a.env", "B", false, Err(missing("B"))),
        ("v", "a.env", "NONE", false, Err(missing("NONE"))),
        ("v", "bad.env", "A", true, parse()),
        ("v", "none.env", "A", true, parse()),
        (
            "w",
            "a.env",
            "A",
            true,
            Err("cannot find the volume \"w\" referenced by FileKeyRef".to_owned()),
        ),
    ] {
        let reference =
            json!({"volumeName": volume, "path": file, "key": key, "optional": optional});
        let container =
            json!({"name": "c", "env": [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]});
        let parsed = serde_json::from_value(container.clone()).unwrap();
        let sources = Sources {
            files: read_files(file_places(&parsed), &volumes),
            ..sources()
        };
        let got = make_with(container, &sources).map(|env| {
            let mut env = env.into_iter();
            env.find(|(name, _)| name == "X").map(|(_, value)| value)
        });
        let got = got.map_err(|error| error.to_string());
        assert_eq!(
            got,
            want.map(|value| value.map(str::to_owned)),
            "{reference}"
        );
    }
}

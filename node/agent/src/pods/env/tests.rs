use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::pods::quantity::ResourceList;
use crate::pods::sources::Known;

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
    }
}

fn make(container: Value) -> Result<Vec<(String, String)>, EnvError> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"containers": [container]},
    }))
    .unwrap();
    let allocatable = ResourceList::new();
    let around = Surroundings {
        pod_ips: &["10.244.0.7".parse().unwrap()],
        node_ip: "172.30.0.2".parse().unwrap(),
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
        &sources(),
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

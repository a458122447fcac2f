use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"namespace": "d", "name": "web"}, "spec": spec}))
        .expect("a service")
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

#[test]
fn families_are_named_or_follow_from_the_cluster_ip() {
    use Family::{V4, V6};
    for (spec, wanted) in [
        (json!({"ipFamilies": ["IPv6", "IPv4"]}), vec![V6, V4]),
        (json!({"clusterIP": "10.96.0.1"}), vec![V4]),
        (json!({"clusterIP": "fd00::1"}), vec![V6]),
        (
            json!({"clusterIP": "None", "ipFamilies": ["IPv4"]}),
            vec![V4],
        ),
        (json!({"clusterIP": "None"}), vec![V4, V6]),
    ] {
        assert_eq!(families(&service(spec.clone())), wanted, "{spec}");
    }
}

#[test]
fn only_services_with_a_selector_are_ours() {
    for (spec, ours) in [
        (json!({"selector": {"app": "web"}}), true),
        (json!({"selector": {}}), false),
        (json!({}), false),
        (
            json!({"selector": {"app": "web"}, "type": "ExternalName"}),
            false,
        ),
    ] {
        assert_eq!(selector(&service(spec.clone())).is_some(), ours, "{spec}");
    }
}

#[test]
fn target_ports_are_numbers_or_names_of_the_pod() {
    let pod = pod(json!({
        "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "ports": [
                {"name": "web", "containerPort": 8080},
                {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
            ]}],
            "initContainers": [
                {"name": "once", "ports": [{"name": "setup", "containerPort": 1}]},
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9090}]},
            ],
        },
    }));
    for (port, wanted) in [
        (json!({"port": 80}), Some(80)),
        (json!({"port": 80, "targetPort": 8000}), Some(8000)),
        (json!({"port": 80, "targetPort": "web"}), Some(8080)),
        (json!({"port": 53, "targetPort": "dns"}), None),
        (
            json!({"port": 53, "targetPort": "dns", "protocol": "UDP"}),
            Some(5353),
        ),
        (json!({"port": 90, "targetPort": "metrics"}), Some(9090)),
        (json!({"port": 90, "targetPort": "setup"}), None),
    ] {
        let parsed: ServicePort = serde_json::from_value(port.clone()).expect("a port");
        assert_eq!(target_port(&pod, &parsed), wanted, "{port}");
    }
}

#[test]
fn a_hostname_counts_in_its_own_subdomain() {
    let web = service(json!({}));
    for (namespace, subdomain, wanted) in [
        ("d", "web", Some("h")),
        ("d", "other", None),
        ("e", "web", None),
    ] {
        let pod = pod(json!({
            "metadata": {"name": "p", "namespace": namespace},
            "spec": {"containers": [], "hostname": "h", "subdomain": subdomain},
        }));
        assert_eq!(hostname(&pod, &web), wanted, "{namespace} {subdomain}");
    }
}

#[test]
fn pods_touch_the_services_that_select_them_now_or_did() {
    let services = Informer::default();
    for (name, app) in [("a", "one"), ("b", "two"), ("c", "three")] {
        let mut service = service(json!({"selector": {"app": app}}));
        service.metadata.name = Some(name.into());
        service.metadata.resource_version = Some("1".into());
        services.apply(service);
    }
    let make = |app: &str, ready: &str| {
        Arc::new(pod(json!({
            "metadata": {"namespace": "d", "name": "p", "labels": {"app": app}}, "spec": {"containers": []},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
        })))
    };
    let names = |old: Option<Arc<Pod>>, new: Option<Arc<Pod>>| -> Vec<String> {
        let touched = touched(&Change { old, new }, &services);
        touched.into_iter().map(|key| key.name).collect()
    };
    assert_eq!(names(None, Some(make("one", "True"))), ["a"]);
    assert_eq!(
        names(Some(make("one", "True")), Some(make("one", "False"))),
        ["a"]
    );
    assert_eq!(
        names(Some(make("one", "True")), Some(make("two", "True"))),
        ["a", "b"]
    );
    assert_eq!(
        names(Some(make("one", "True")), Some(make("one", "True"))),
        [""; 0]
    );
    assert_eq!(names(Some(make("three", "True")), None), ["c"]);
}

use jiff::Timestamp;
use serde_json::json;

use super::*;

fn service(spec: Value) -> Value {
    let mut service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec});
    (ROW.default)(&mut service);
    service
}

#[test]
fn services_are_defaulted() {
    assert_eq!(
        service(json!({"ports": [{"port": 80}]}))["spec"],
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]})
    );
    assert_eq!(
        service(json!({"type": "NodePort"}))["spec"]["externalTrafficPolicy"],
        "Cluster"
    );
    assert_eq!(
        service(json!({"sessionAffinity": "ClientIP"}))["spec"]["sessionAffinityConfig"]["clientIP"]
            ["timeoutSeconds"],
        10800
    );
}

#[test]
fn services_are_checked() {
    let table = [
        (
            json!({"ports": [{"port": 80, "targetPort": "http"}]}),
            vec![],
        ),
        (json!({}), vec!["spec.ports: Required value"]),
        (json!({"clusterIP": "None"}), vec![]),
        (
            json!({"ports": [{"port": 80}, {"port": 81}]}),
            vec![
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
            ],
        ),
        (
            json!({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}),
            vec!["spec.ports[1].name: Duplicate value: \"a\""],
        ),
        (
            json!({"ports": [{"port": 0}]}),
            vec![
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"type": "Magic", "ports": [{"port": 80}]}),
            vec![
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            json!({"ports": [{"port": 80, "nodePort": 30000}]}),
            vec!["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            json!({"clusterIP": "10.96.0.300", "ports": [{"port": 80}]}),
            vec![
                "spec.clusterIPs[0]: Invalid value: \"10.96.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
    ];
    for (spec, expected) in table {
        let errors: Vec<String> = (ROW.validate_create)(&service(spec.clone()))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(errors, expected, "{spec}");
    }
}

#[test]
fn the_cluster_ip_stays() {
    let old = service(
        json!({"clusterIP": "10.96.0.2", "clusterIPs": ["10.96.0.2"], "ports": [{"port": 80}]}),
    );
    let mut new = service(json!({"ports": [{"port": 81}]}));
    (ROW.prepare_update)(&mut new, &old);
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.2");
    assert!((ROW.validate_update)(&new, &old).is_empty());

    new["spec"]["clusterIP"] = json!("10.96.0.3");
    // The other field follows the one that was changed.
    (ROW.prepare_update)(&mut new, &old);
    let errors: Vec<String> = (ROW.validate_update)(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.3\"]: may not change once set"]
    );
}

#[test]
fn columns_read_as_in_kubectl() {
    let now = Timestamp::UNIX_EPOCH;
    let mut web = service(
        json!({"clusterIP": "10.96.0.2", "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}], "selector": {"app": "web"}}),
    );
    assert_eq!(
        (ROW.cells)(&web, now),
        [
            "web",
            "ClusterIP",
            "10.96.0.2",
            "<none>",
            "80/TCP,53/UDP",
            "<unknown>",
            "app=web"
        ]
    );
    web["spec"]["type"] = json!("LoadBalancer");
    web["spec"]["ports"][0]["nodePort"] = json!(30001);
    assert_eq!(
        (ROW.cells)(&web, now)[3..5],
        ["<pending>", "80:30001/TCP,53/UDP"]
    );
}

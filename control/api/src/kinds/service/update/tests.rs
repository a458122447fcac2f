use super::*;

fn prepared(new: Value, old: &Value) -> Value {
    let mut new = json!({"spec": new});
    prepare(
        &mut new,
        &json!({"spec": old, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}}),
    );
    new
}

/// Everything a balanced service can be given.
fn balanced() -> Value {
    json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
        "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "loadBalancerClass": "a.b/c",
        "allocateLoadBalancerNodePorts": true, "internalTrafficPolicy": "Cluster",
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}],
    })
}

fn with(mut spec: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn another_type_loses_what_only_the_old_one_used() {
    let old = balanced();
    let port = json!([{"name": "a", "port": 80}]);
    for (change, left) in [
        (
            json!({"type": "ClusterIP"}),
            json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
                "internalTrafficPolicy": "Cluster", "ports": port}),
        ),
        (
            json!({"type": "NodePort"}),
            json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
                "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local",
                "ports": [{"name": "a", "port": 80, "nodePort": 30080}]}),
        ),
        (
            json!({"type": "ExternalName", "externalName": "a.example"}),
            json!({"type": "ExternalName", "externalName": "a.example",
                "internalTrafficPolicy": "Cluster", "ports": port}),
        ),
    ] {
        let new = prepared(with(old.clone(), change.clone()), &old);
        assert_eq!(new["spec"], left, "{change}");
        assert_eq!(new["status"], json!({"loadBalancer": {}}), "{change}");
    }
}

#[test]
fn what_was_changed_as_well_is_left_to_validation() {
    let old = balanced();
    let change = json!({"type": "ClusterIP", "healthCheckNodePort": 31001, "loadBalancerClass": "a.b/d",
        "allocateLoadBalancerNodePorts": false, "externalTrafficPolicy": "Cluster",
        "ports": [{"name": "a", "port": 80, "nodePort": 30081}]});
    let wanted = with(old.clone(), change);
    assert_eq!(prepared(wanted.clone(), &old)["spec"], wanted);

    let change = json!({"type": "ExternalName", "clusterIP": "10.96.0.8", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"});
    let spec = prepared(with(old.clone(), change), &old);
    assert_eq!(spec["spec"]["clusterIP"], "10.96.0.8");
    assert_eq!(spec["spec"]["ipFamilies"], json!(["IPv6"]));
}

#[test]
fn a_manifest_sent_again_keeps_what_was_allocated() {
    let old = balanced();
    let bare = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"name": "a", "port": 81}]});
    let new = prepared(bare, &old);
    for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
        assert_eq!(new["spec"][key], old[key], "{key}");
    }
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080, "by its name");
    assert!(new["status"]["loadBalancer"]["ingress"].is_array());
}

#[test]
fn a_node_port_that_moved_to_another_port_is_not_given_twice() {
    let old = json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}]});
    let new = json!({"type": "NodePort", "ports": [{"name": "b", "port": 80, "nodePort": 30080}, {"name": "a", "port": 81}]});
    let spec = prepared(new, &old);
    assert!(spec["spec"]["ports"][1].get("nodePort").is_none());
}

#[test]
fn the_other_field_follows_the_one_that_was_changed() {
    let old = json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]});
    for (new, ips) in [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.9"]}),
            json!(["10.96.0.8"]),
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.7"]}),
            json!(["10.96.0.7"]),
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "10.96.0.9"}),
            json!(["10.96.0.9"]),
        ),
        (json!({"type": "ClusterIP"}), json!(["10.96.0.9"])),
    ] {
        assert_eq!(
            prepared(new.clone(), &old)["spec"]["clusterIPs"],
            ips,
            "{new}"
        );
    }
}

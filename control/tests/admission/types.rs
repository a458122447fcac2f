//! Services that change their type, and what Kubernetes' conformance suite promises of the API of services: such tests
//! are named after the suite's entries. Their other half, traffic, is asked of nodes (`tests/tests/conformance`).

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, SERVICES};
use super::services::service;

const WEB: &str = "/api/v1/namespaces/default/services/web";

struct Changed {
    api: Api,
    before: Value,
    after: Value,
    _etcd: Etcd,
}

/// A service of one type made into another, by sending the whole object back as clients do.
async fn changed(from: Value, to: Value) -> Changed {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let before = Api::accepted(api.call("POST", SERVICES, service("web", from)).await);
    let mut wanted = before.clone();
    for (key, value) in to.as_object().unwrap() {
        wanted["spec"][key] = value.clone();
    }
    let after = Api::accepted(api.call("PUT", WEB, wanted).await);
    Changed {
        api,
        before,
        after,
        _etcd: etcd,
    }
}

/// Neither address nor node port, and another service may have those it had.
async fn assert_released(changed: Changed) {
    let (before, spec) = (&changed.before["spec"], &changed.after["spec"]);
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert!(spec.get(field).is_none(), "{field}: {spec}");
    }
    assert!(spec["ports"][0].get("nodePort").is_none(), "{spec}");
    let mut next =
        json!({"type": before["type"], "clusterIP": before["clusterIP"], "ports": before["ports"]});
    next["ports"][0]["name"] = "a".into();
    Api::accepted(
        changed
            .api
            .call("POST", SERVICES, service("next", next))
            .await,
    );
}

/// `[sig-network] Services should be able to change the type from ClusterIP to ExternalName`
#[tokio::test]
async fn services_should_be_able_to_change_the_type_from_cluster_ip_to_external_name() {
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    assert_released(changed(json!({}), name).await).await;
}

/// `[sig-network] Services should be able to change the type from NodePort to ExternalName`
#[tokio::test]
async fn services_should_be_able_to_change_the_type_from_node_port_to_external_name() {
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    assert_released(changed(json!({"type": "NodePort"}), name).await).await;
}

/// `[sig-network] Services should be able to change the type from ExternalName to ClusterIP`
#[tokio::test]
async fn services_should_be_able_to_change_the_type_from_external_name_to_cluster_ip() {
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    let inside = json!({"type": "ClusterIP", "externalName": "", "ports": [{"port": 80, "protocol": "TCP", "name": "http"}]});
    let changed = changed(name, inside).await;
    assert!(changed.before["spec"].get("clusterIP").is_none());
    let spec = &changed.after["spec"];
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
    assert_eq!(spec["internalTrafficPolicy"], "Cluster");
    assert!(spec["ports"][0].get("nodePort").is_none());
}

/// `[sig-network] Services should be able to change the type from ExternalName to NodePort`
#[tokio::test]
async fn services_should_be_able_to_change_the_type_from_external_name_to_node_port() {
    let name = json!({"type": "ExternalName", "externalName": "a.example"});
    let outside = json!({"type": "NodePort", "externalName": "", "ports": [{"port": 80, "protocol": "TCP", "name": "http"}]});
    let changed = changed(name, outside).await;
    let spec = &changed.after["spec"];
    assert!(spec["clusterIP"].is_string(), "{spec}");
    assert!(spec["ports"][0]["nodePort"].as_i64().unwrap() >= 30_000);
}

#[tokio::test]
async fn should_be_able_to_update_service_type_to_node_port_listening_on_same_port_number_but_different_protocols()
 {
    let both = json!([
        {"name": "tcp", "port": 80, "protocol": "TCP"},
        {"name": "udp", "port": 80, "protocol": "UDP"},
    ]);
    let changed = changed(
        json!({"ports": [both[0]]}),
        json!({"type": "NodePort", "ports": both}),
    )
    .await;
    let ports = &changed.after["spec"]["ports"];
    let number = ports[0]["nodePort"].as_i64().unwrap();
    assert!(number >= 30_000);
    assert_eq!(ports[1]["nodePort"], number, "one number for both");

    // The one that is left keeps the number.
    let one = json!({"spec": {"ports": [both[1]]}});
    let left = Api::accepted(changed.api.call("PATCH", WEB, one).await);
    assert_eq!(left["spec"]["ports"][0]["nodePort"], number);
}

/// `[sig-network] Services should complete a service status lifecycle`
#[tokio::test]
async fn services_should_complete_a_service_status_lifecycle() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let balanced = service(
        "web",
        json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/internal-vip"}),
    );
    Api::accepted(api.call("POST", SERVICES, balanced).await);
    let status = format!("{WEB}/status");
    let read = Api::accepted(api.call("GET", &status, Value::Null).await);
    assert_eq!(read["status"], json!({"loadBalancer": {}}));

    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let patched = Api::accepted(api.call("PATCH", &status, patch).await);
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    assert_eq!(
        patched["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "203.0.113.1", "ipMode": "VIP"}])
    );
    let mut updated = patched.clone();
    updated["status"]["conditions"] = json!([{"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    let updated = Api::accepted(api.call("PUT", &status, updated).await);
    assert_eq!(updated["status"]["conditions"][0]["type"], "StatusUpdate");

    let label = json!({"metadata": {"labels": {"test-service": "patched"}}});
    let labelled = Api::accepted(api.call("PATCH", WEB, label).await);
    assert_eq!(labelled["status"], updated["status"]);
    assert_eq!(labelled["metadata"]["labels"]["test-service"], "patched");
    assert_eq!(
        Api::accepted(api.call("GET", WEB, Value::Null).await),
        labelled
    );
}

/// `[sig-network] Services should delete a collection of services`
#[tokio::test]
async fn services_should_delete_a_collection_of_services() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/29").await;
    api.namespace("default").await;
    let made = |name: &str, label: &str| {
        let mut made = service(name, json!({"type": "NodePort"}));
        made["metadata"]["labels"] = json!({"e2e": label});
        made
    };
    for (name, label) in [("a", "gone"), ("b", "gone"), ("c", "stays")] {
        Api::accepted(api.call("POST", SERVICES, made(name, label)).await);
    }
    let selected = format!("{SERVICES}?labelSelector=e2e%3Dgone");
    Api::accepted(api.call("DELETE", &selected, Value::Null).await);
    let left = Api::accepted(api.call("GET", SERVICES, Value::Null).await);
    assert_eq!(left["items"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
    // Six addresses, one of them kubernetes': four are left only if the two came back.
    for name in ["d", "e", "f", "g"] {
        Api::accepted(api.call("POST", SERVICES, made(name, "new")).await);
    }
}

//! IPAddresses are what services hold their addresses by, and ServiceCIDRs give more of them.

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, SERVICES, message};
use super::services::service;

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

async fn addresses(api: &Api) -> Vec<String> {
    let listed = Api::accepted(api.call("GET", ADDRESSES, Value::Null).await);
    let items = listed["items"].as_array().unwrap().iter();
    let name = |own: &Value| own["metadata"]["name"].as_str().unwrap().to_owned();
    items.map(name).collect()
}

/// A ServiceCIDR with this word in its Ready condition.
async fn cidr(api: &Api, name: &str, network: &str, ready: &str) {
    let made =
        json!({"metadata": {"name": name, "finalizers": ["a/b"]}, "spec": {"cidrs": [network]}});
    Api::accepted(api.call("POST", CIDRS, made).await);
    set_ready(api, name, ready).await;
}

async fn set_ready(api: &Api, name: &str, ready: &str) {
    let condition = json!({
        "type": "Ready", "status": ready, "reason": "", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({"status": {"conditions": [condition]}});
    let path = format!("{CIDRS}/{name}/status");
    Api::accepted(api.call("PATCH", &path, status).await);
}

#[tokio::test]
async fn an_address_is_an_object_for_as_long_as_its_service_has_it() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24,fd00::/112").await;
    api.namespace("default").await;
    let both = service("web", json!({"ipFamilyPolicy": "RequireDualStack"}));
    let made = Api::accepted(api.call("POST", SERVICES, both).await);
    for (ip, family) in [(0, "IPv4"), (1, "IPv6")] {
        let ip = made["spec"]["clusterIPs"][ip].as_str().unwrap();
        let path = format!("{ADDRESSES}/{ip}");
        let held = Api::accepted(api.call("GET", &path, Value::Null).await);
        assert_eq!(
            held["metadata"]["labels"],
            json!({
                "ipaddress.kubernetes.io/ip-family": family,
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            })
        );
        assert_eq!(held["kind"], "IPAddress");
        assert!(held["metadata"]["uid"].is_string());
        assert_eq!(
            held["spec"]["parentRef"],
            json!({"resource": "services", "namespace": "default", "name": "web"})
        );
    }
    let path = format!("{SERVICES}/web");
    Api::accepted(api.call("DELETE", &path, Value::Null).await);
    assert!(addresses(&api).await.is_empty());

    // One that somebody else has made an object of is taken.
    let mine = json!({"metadata": {"name": "10.96.0.9"}, "spec": {"parentRef": {"resource": "gates", "group": "example.com", "name": "a"}}});
    Api::accepted(api.call("POST", ADDRESSES, mine).await);
    let body = service("web", json!({"clusterIP": "10.96.0.9"}));
    let (code, body) = api.call("POST", SERVICES, body).await;
    assert_eq!(code, 422);
    assert!(message(&body).contains("already allocated"), "{body}");
}

#[tokio::test]
async fn more_addresses_come_from_ready_service_cidrs() {
    let etcd = Etcd::start().await;
    // Two addresses, one of them kubernetes'.
    let api = Api::start(&etcd, "10.96.0.0/30").await;
    api.namespace("default").await;
    let plain = |name: &str| service(name, json!({}));
    let ip = |made: &Value| made["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let first = Api::accepted(api.call("POST", SERVICES, plain("first")).await);
    assert_eq!(ip(&first), "10.96.0.2");

    cidr(&api, "more", "10.97.0.0/24", "False").await;
    let (code, body) = api.call("POST", SERVICES, plain("second")).await;
    assert_eq!(code, 500);
    assert!(message(&body).contains("range is full"), "{body}");
    set_ready(&api, "more", "True").await;
    let second = Api::accepted(api.call("POST", SERVICES, plain("second")).await);
    assert!(ip(&second).starts_with("10.97.0."), "{second}");
    let named = service("third", json!({"clusterIP": "10.97.0.1"}));
    Api::accepted(api.call("POST", SERVICES, named).await);
    assert_eq!(addresses(&api).await.len(), 3);

    // One that is being deleted gives none, and what it gave stays.
    let path = format!("{CIDRS}/more");
    Api::accepted(api.call("DELETE", &path, Value::Null).await);
    let (code, body) = api.call("POST", SERVICES, plain("fourth")).await;
    assert_eq!(code, 500, "{body}");
    let named = service("fourth", json!({"clusterIP": "10.97.0.77"}));
    let (code, body) = api.call("POST", SERVICES, named).await;
    assert_eq!(code, 422);
    assert!(
        message(&body).contains("The range of valid IPs is 10.96.0.0/30"),
        "{body}"
    );
    let kept = format!("{SERVICES}/second");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let kept = Api::accepted(api.call("PATCH", &kept, label).await);
    assert_eq!(ip(&kept), ip(&second));
}

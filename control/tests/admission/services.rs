//! Cluster addresses and node ports, from creation to deletion.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, SERVICES, message};

pub fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
    });
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

#[tokio::test]
async fn concurrent_services_of_two_servers_get_addresses_of_their_own() {
    let etcd = Etcd::start().await;
    // 62 addresses, one of them kubernetes': nearly all are needed.
    let apis = [
        Api::start(&etcd, "10.96.0.0/26").await,
        Api::start(&etcd, "10.96.0.0/26").await,
    ];
    apis[0].namespace("default").await;
    let creates = (0..50).map(|i| {
        let body = service(&format!("s{i}"), json!({"type": "NodePort"}));
        apis[i % 2].call("POST", SERVICES, body)
    });
    let made: Vec<Value> = join_all(creates)
        .await
        .into_iter()
        .map(Api::accepted)
        .collect();
    let ips: BTreeSet<&str> = made
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: BTreeSet<i64> = made
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (50, 50));
    assert!(!ips.contains("10.96.0.1"));
    for service in &made {
        let spec = &service["spec"];
        assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    }

    // A server that starts later knows them: the rest is given out, then nothing is left.
    let late = Api::start(&etcd, "10.96.0.0/26").await;
    let mut all: BTreeSet<String> = ips.into_iter().map(str::to_owned).collect();
    for i in 0..11 {
        let body = service(&format!("late{i}"), json!({}));
        let made = Api::accepted(late.call("POST", SERVICES, body).await);
        let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(all.insert(ip.clone()), "{ip} was given twice");
    }
    let (code, body) = late
        .call("POST", SERVICES, service("none", json!({})))
        .await;
    assert_eq!(code, 500);
    assert!(message(&body).contains("range is full"), "{body}");
}

#[tokio::test]
async fn an_address_is_held_until_its_service_is_gone() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let fixed = |name: &str| service(name, json!({"clusterIP": "10.96.0.10"}));

    // A dry run takes nothing.
    let dry = format!("{SERVICES}?dryRun=All");
    Api::accepted(api.call("POST", &dry, fixed("a")).await);
    Api::accepted(api.call("POST", SERVICES, fixed("b")).await);

    let (code, body) = api.call("POST", SERVICES, fixed("c")).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: \
         failed to allocate IP 10.96.0.10: provided IP is already allocated"
    );
    let (code, body) = api.call("POST", SERVICES, fixed("b")).await;
    assert_eq!((code, &body["reason"]), (409, &json!("AlreadyExists")));

    for (ip, why) in [
        (
            "10.97.0.1",
            "not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        ("10.96.0.1", "provided IP is already allocated"),
    ] {
        let body = service("c", json!({"clusterIP": ip}));
        let (code, body) = api.call("POST", SERVICES, body).await;
        assert_eq!(code, 422, "{body}");
        assert!(message(&body).contains(why), "{body}");
    }
    let kubernetes = service("kubernetes", json!({"clusterIP": "10.96.0.1"}));
    Api::accepted(api.call("POST", SERVICES, kubernetes).await);

    let path = format!("{SERVICES}/b");
    let change = json!({"spec": {"clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]}});
    let (code, body) = api.call("PATCH", &path, change).await;
    assert_eq!(code, 422);
    assert!(message(&body).contains("may not change once set"), "{body}");

    Api::accepted(api.call("DELETE", &path, Value::Null).await);
    Api::accepted(api.call("POST", SERVICES, fixed("c")).await);

    // Becoming a mere name gives the address back too.
    let name = json!({"spec": {"type": "ExternalName", "externalName": "a.example", "clusterIP": null, "clusterIPs": null}});
    let named = Api::accepted(api.call("PATCH", &format!("{SERVICES}/c"), name).await);
    assert!(named["spec"].get("clusterIP").is_none(), "{named}");
    Api::accepted(api.call("POST", SERVICES, fixed("d")).await);

    let headless = service("headless", json!({"clusterIP": "None"}));
    let headless = Api::accepted(api.call("POST", SERVICES, headless).await);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn node_ports_come_and_go_with_the_type() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let ports = |port: u16| {
        json!({"type": "NodePort", "ports": [
            {"name": "u", "port": 53, "protocol": "UDP", "nodePort": port},
            {"name": "t", "port": 53, "protocol": "TCP"},
        ]})
    };
    let dns = Api::accepted(
        api.call("POST", SERVICES, service("dns", ports(30053)))
            .await,
    );
    assert_eq!(dns["spec"]["ports"][1]["nodePort"], 30053);

    let (code, body) = api.call("POST", SERVICES, service("b", ports(30053))).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated"
    );
    let (_, body) = api.call("POST", SERVICES, service("b", ports(80))).await;
    assert!(
        message(&body).contains("The range of valid ports is 30000-32767"),
        "{body}"
    );

    // A label is no reason to let go of anything.
    let path = format!("{SERVICES}/dns");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = Api::accepted(api.call("PATCH", &path, label).await);
    assert_eq!(labelled["spec"], dns["spec"]);

    let inside = json!({"spec": {"type": "ClusterIP"}});
    let inside = Api::accepted(api.call("PATCH", &path, inside).await);
    assert_eq!(inside["spec"]["clusterIP"], dns["spec"]["clusterIP"]);
    assert!(inside["spec"]["ports"][0].get("nodePort").is_none());
    Api::accepted(api.call("POST", SERVICES, service("b", ports(30053))).await);

    let balanced = service(
        "lb",
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
    );
    let balanced = Api::accepted(api.call("POST", SERVICES, balanced).await);
    let health = &balanced["spec"]["healthCheckNodePort"];
    assert!(health.as_i64().unwrap() >= 30086, "{balanced}");
    assert_ne!(health, &balanced["spec"]["ports"][0]["nodePort"]);
}

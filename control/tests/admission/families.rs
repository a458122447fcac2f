//! Services of a cluster with two address families.

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, SERVICES, message};
use super::services::service;

const BOTH: &str = "10.96.0.0/24,fd00:10:96::/112";

fn families(service: &Value) -> (&Value, &Value, usize) {
    let spec = &service["spec"];
    let ips = spec["clusterIPs"].as_array().map_or(0, Vec::len);
    assert_eq!(spec["clusterIP"], spec["clusterIPs"][0]);
    (&spec["ipFamilyPolicy"], &spec["ipFamilies"], ips)
}

#[tokio::test]
async fn services_get_an_address_of_each_family_they_ask_for() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, BOTH).await;
    api.namespace("default").await;
    let (single, prefer, require) = (
        json!("SingleStack"),
        json!("PreferDualStack"),
        json!("RequireDualStack"),
    );
    for (name, spec, wanted) in [
        ("plain", json!({}), (&single, json!(["IPv4"]), 1)),
        (
            "six",
            json!({"ipFamilies": ["IPv6"]}),
            (&single, json!(["IPv6"]), 1),
        ),
        (
            "prefers",
            json!({"ipFamilyPolicy": prefer}),
            (&prefer, json!(["IPv4", "IPv6"]), 2),
        ),
        (
            "requires",
            json!({"ipFamilyPolicy": require, "ipFamilies": ["IPv6", "IPv4"]}),
            (&require, json!(["IPv6", "IPv4"]), 2),
        ),
        (
            "named",
            json!({"ipFamilyPolicy": require, "clusterIP": "fd00:10:96::7", "clusterIPs": ["fd00:10:96::7", "10.96.0.7"]}),
            (&require, json!(["IPv6", "IPv4"]), 2),
        ),
        (
            "headless",
            json!({"clusterIP": "None", "ipFamilyPolicy": prefer}),
            (&prefer, json!(["IPv4", "IPv6"]), 1),
        ),
    ] {
        let made = Api::accepted(api.call("POST", SERVICES, service(name, spec)).await);
        let (policy, families, ips) = families(&made);
        assert_eq!((policy, families.clone(), ips), wanted, "{name}");
        for (ip, family) in made["spec"]["clusterIPs"]
            .as_array()
            .unwrap()
            .iter()
            .zip(families.as_array().unwrap())
            .filter(|(ip, _)| *ip != "None")
        {
            let six = ip.as_str().unwrap().starts_with("fd00:10:96::");
            assert_eq!(six, family == "IPv6", "{name}: {ip}");
        }
    }
    let (code, body) = api
        .call("POST", SERVICES, service("more", json!({"ipFamilyPolicy": require, "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:10:96::7"]})))
        .await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"more\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"fd00:10:96::7\"]: \
         failed to allocate IP fd00:10:96::7: provided IP is already allocated"
    );
}

#[tokio::test]
async fn the_second_address_comes_and_goes_with_the_policy() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, BOTH).await;
    api.namespace("default").await;
    let manifest = service("web", json!({"clusterIP": "10.96.0.9"}));
    let made = Api::accepted(api.call("POST", SERVICES, manifest.clone()).await);
    assert_eq!(families(&made).2, 1);

    let path = format!("{SERVICES}/web");
    let policy = |policy: &str| json!({"spec": {"ipFamilyPolicy": policy}});
    let grown = Api::accepted(api.call("PATCH", &path, policy("PreferDualStack")).await);
    assert_eq!(families(&grown).2, 2, "{grown}");
    assert_eq!(grown["spec"]["clusterIP"], "10.96.0.9");
    let second = grown["spec"]["clusterIPs"][1].as_str().unwrap().to_owned();

    // A manifest that says nothing of it changes nothing.
    let again = Api::accepted(api.call("PUT", &path, manifest).await);
    assert_eq!(again["spec"], grown["spec"]);
    let taken = service(
        "other",
        json!({"ipFamilies": ["IPv6"], "clusterIP": second}),
    );
    let (code, body) = api.call("POST", SERVICES, taken.clone()).await;
    assert_eq!(code, 422, "{body}");
    assert!(message(&body).contains("already allocated"), "{body}");

    let fewer = json!({"spec": {"clusterIPs": ["10.96.0.9"]}});
    let (code, body) = api.call("PATCH", &path, fewer).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"web\" is invalid: spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP"
    );
    let shrunk = Api::accepted(api.call("PATCH", &path, policy("SingleStack")).await);
    assert_eq!(families(&shrunk).2, 1, "{shrunk}");
    assert_eq!(shrunk["spec"]["ipFamilies"], json!(["IPv4"]));
    Api::accepted(api.call("POST", SERVICES, taken).await);
}

#[tokio::test]
async fn a_cluster_that_loses_a_family_serves_what_it_has() {
    let etcd = Etcd::start().await;
    let both = Api::start(&etcd, BOTH).await;
    both.namespace("default").await;
    let prefers = service("web", json!({"ipFamilyPolicy": "PreferDualStack"}));
    let made = Api::accepted(both.call("POST", SERVICES, prefers).await);

    let one = Api::start(&etcd, "10.96.0.0/24").await;
    let path = format!("{SERVICES}/web");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = Api::accepted(one.call("PATCH", &path, label).await);
    assert_eq!(labelled["spec"], made["spec"]);
    let requires = service("more", json!({"ipFamilyPolicy": "RequireDualStack"}));
    let (code, body) = one.call("POST", SERVICES, requires).await;
    assert_eq!(code, 422);
    assert!(
        message(&body).contains("not configured for dual-stack"),
        "{body}"
    );

    // Both addresses are free again, the one of the lost family too.
    let ips = made["spec"]["clusterIPs"].clone();
    Api::accepted(one.call("DELETE", &path, Value::Null).await);
    let again = service(
        "again",
        json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": ips[0], "clusterIPs": ips}),
    );
    Api::accepted(both.call("POST", SERVICES, again).await);
}

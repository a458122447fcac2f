//! The API server's own service, as every cluster has it from the start.

use serde_json::{Value, json};
use vetch_control::bootstrap::{self, Advertised};
use vetch_store::testing::Etcd;

use super::api::Api;

async fn started(etcd: &Etcd, networks: &str) -> Api {
    let api = Api::start(etcd, networks).await;
    ensure(&api, networks).await;
    api
}

async fn ensure(api: &Api, networks: &str) {
    let advertised = Advertised {
        service_cidrs: networks
            .split(',')
            .map(|network| network.parse().unwrap())
            .collect(),
        service_ip: "10.96.0.1".parse().unwrap(),
        address: "192.0.2.7".parse().unwrap(),
        port: 6443,
        ca_pem: "PEM".into(),
    };
    bootstrap::ensure(&api.client(), &advertised).await.unwrap();
}

async fn get(api: &Api, path: &str) -> Value {
    Api::accepted(api.call("GET", path, Value::Null).await)
}

/// `[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server`
#[tokio::test]
async fn api_server_should_have_endpoints_and_endpoint_slices_pointing_to_api_server() {
    let etcd = Etcd::start().await;
    let api = started(&etcd, "10.96.0.0/24").await;
    let port = json!([{"name": "https", "port": 6443, "protocol": "TCP"}]);
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    let endpoints = get(&api, path).await;
    let subset = json!([{"addresses": [{"ip": "192.0.2.7"}], "ports": port}]);
    assert_eq!(endpoints["subsets"], subset);
    let of = "labelSelector=kubernetes.io/service-name%3Dkubernetes";
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?{of}");
    let slices = get(&api, &path).await;
    let [slice] = slices["items"].as_array().unwrap().as_slice() else {
        panic!("{slices}")
    };
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));
    assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
    assert_eq!(
        (&slice["ports"], &slice["addressType"]),
        (&port, &json!("IPv4"))
    );

    // What somebody makes of them is mended.
    let path = "/api/v1/namespaces/default/endpoints/kubernetes";
    Api::accepted(api.call("PATCH", path, json!({"subsets": null})).await);
    ensure(&api, "10.96.0.0/24").await;
    assert_eq!(get(&api, path).await["subsets"], subset);
}

/// `[sig-network] Services should find a service from listing all namespaces`
#[tokio::test]
async fn services_should_find_a_service_from_listing_all_namespaces() {
    let etcd = Etcd::start().await;
    let api = started(&etcd, "10.96.0.0/24").await;
    let all = get(&api, "/api/v1/services").await;
    let mut all = all["items"].as_array().unwrap().iter();
    let found = all.find(|own| {
        own["metadata"]["name"] == "kubernetes" && own["metadata"]["namespace"] == "default"
    });
    assert_eq!(found.unwrap()["spec"]["clusterIP"], "10.96.0.1");
}

#[tokio::test]
async fn a_cluster_says_where_its_addresses_come_from() {
    let etcd = Etcd::start().await;
    let api = started(&etcd, "10.96.0.0/24").await;
    let path = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    let made = get(&api, path).await;
    assert_eq!(made["spec"]["cidrs"], json!(["10.96.0.0/24"]));
    let held = get(&api, "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1").await;
    assert_eq!(
        held["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "kubernetes"})
    );
    // A second family may come; another network does not take the first one's place.
    ensure(&api, "10.96.0.0/24,fd00::/112").await;
    let both = json!(["10.96.0.0/24", "fd00::/112"]);
    assert_eq!(get(&api, path).await["spec"]["cidrs"], both);
    ensure(&api, "10.97.0.0/24").await;
    assert_eq!(get(&api, path).await["spec"]["cidrs"], both);
}

const DNS: &str = "/api/v1/namespaces/kube-system/services/kube-dns";

/// `[sig-network] DNS` asks of every cluster that it has one, at an address that is known beforehand.
#[tokio::test]
async fn every_cluster_has_a_service_for_dns() {
    let etcd = Etcd::start().await;
    let networks = "10.96.0.0/24,fd96::/112";
    let api = started(&etcd, networks).await;
    let made = get(&api, DNS).await;
    let spec = &made["spec"];
    assert_eq!(spec["clusterIPs"], json!(["10.96.0.10", "fd96::a"]));
    assert_eq!(spec["ipFamilies"], json!(["IPv4", "IPv6"]));
    // So that every node answers it, and not these servers alone.
    assert_eq!(spec["selector"], Value::Null);
    assert_eq!(made["metadata"]["labels"]["k8s-app"], "kube-dns");

    // It is whose it is made to be.
    let selector = json!({"spec": {"selector": {"k8s-app": "kube-dns"}}});
    Api::accepted(api.call("PATCH", DNS, selector.clone()).await);
    ensure(&api, networks).await;
    assert_eq!(
        get(&api, DNS).await["spec"]["selector"],
        selector["spec"]["selector"]
    );
}

#[tokio::test]
async fn a_cluster_whose_dns_address_is_taken_does_without_the_service() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let own = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "coredns"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 53}], "selector": {"app": "coredns"}},
    });
    Api::accepted(
        api.call("POST", "/api/v1/namespaces/default/services", own)
            .await,
    );
    ensure(&api, "10.96.0.0/24").await;
    let (status, _) = api.call("GET", DNS, Value::Null).await;
    assert_eq!(status, 404);
}

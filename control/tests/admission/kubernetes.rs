//! The API server's own service, as every cluster has it from the start.

use serde_json::{Value, json};
use vetch_control::bootstrap::{self, Advertised};
use vetch_store::testing::Etcd;

use crate::api::Api;

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

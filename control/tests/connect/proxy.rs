//! pods/proxy, services/proxy and nodes/proxy: who is led nowhere is told why. What is carried, and how, is asked of the carrier.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::cluster::{ADMIN, Cluster, cluster};
use super::logs::node;

const NAMESPACE: &str = "/api/v1/namespaces/default";

async fn patch_status(cluster: &Cluster, pod: &str, ip: &str) {
    let path = format!("{NAMESPACE}/pods/{pod}/status");
    let media = [("content-type", "application/merge-patch+json")];
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    cluster
        .call(ADMIN, "PATCH", &path, &media, status)
        .await
        .expect(200);
}

#[tokio::test]
async fn who_is_led_nowhere_is_told_why() {
    let cluster = cluster().await;
    cluster.pod("p", "default", "n").await;
    patch_status(&cluster, "p", "127.0.0.1").await;
    let ports = json!([{"name": "http", "port": 80}]);
    let web = json!({"metadata": {"name": "web"}, "spec": {"ports": ports}});
    cluster.create(&format!("{NAMESPACE}/services"), web).await;
    node(&cluster, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).await;
    let lost = json!({"metadata": {"name": "lost"}});
    cluster.create("/api/v1/nodes", lost).await;
    for (path, code, message) in [
        ("pods/none/proxy/", 404, "pods \"none\" not found"),
        (
            "services/none:80/proxy/",
            404,
            "services \"none\" not found",
        ),
        (
            "pods/ftp:p:80/proxy/",
            400,
            "invalid pod request \"ftp:p:80\"",
        ),
        (
            "services/a:b:c:d/proxy/",
            400,
            "invalid service request \"a:b:c:d\"",
        ),
        ("pods/p:80/proxy/", 400, "address not allowed"),
        (
            "services/web:80/proxy/a",
            503,
            "no endpoints available for service \"web\"",
        ),
        (
            "services/web:81/proxy/a",
            503,
            "no service port 81 found for service \"web\"",
        ),
        ("/api/v1/nodes/none/proxy/", 404, "nodes \"none\" not found"),
        (
            "/api/v1/nodes/a:b:c:d/proxy/",
            400,
            "invalid node request \"a:b:c:d\"",
        ),
        (
            "/api/v1/nodes/lost/proxy/pods",
            500,
            "no preferred addresses found; known addresses: []",
        ),
        ("/api/v1/nodes/n/proxy/pods", 400, "address not allowed"),
        ("/api/v1/nodes/n:1/proxy/pods", 400, "address not allowed"),
        ("/api/v1/nodes/https:n:2/proxy/", 400, "address not allowed"),
        (
            "pods/p/log/more",
            404,
            "the server could not find the requested resource",
        ),
    ] {
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("{NAMESPACE}/{path}"),
        };
        let answer = cluster.get(&path).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{path}");
    }
    let node = ("system:node:n", &["system:nodes"][..]);
    let pod = format!("{NAMESPACE}/pods/p:80/proxy/");
    for method in ["GET", "POST", "OPTIONS"] {
        for path in [pod.as_str(), "/api/v1/nodes/n/proxy/"] {
            let answer = cluster.call(node, method, path, &[], Value::Null).await;
            assert_eq!(answer.code, 403, "{method} {path} {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_services_endpoints_are_those_of_its_slices() {
    let cluster = cluster().await;
    let web = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    cluster.create(&format!("{NAMESPACE}/services"), web).await;
    let path = format!("{NAMESPACE}/services/web/proxy/");
    // An address that nobody is led to, so that the answer says whose it was.
    let nobody = "255.255.255.255";
    let endpoints = json!({
        "metadata": {"name": "web"},
        "subsets": [{"addresses": [{"ip": nobody}], "ports": [{"port": 80}]}],
    });
    cluster
        .create(&format!("{NAMESPACE}/endpoints"), endpoints)
        .await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    for (name, service, message) in [
        ("a", "other", "no endpoints available for service \"web\""),
        ("b", "web", "address not allowed"),
    ] {
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": [nobody]}],
        });
        cluster.create(slices, slice).await;
        let answer = cluster.get(&path).await;
        assert_eq!(answer.message(), message, "{name}");
    }
}

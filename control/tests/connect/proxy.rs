//! pods/proxy and services/proxy: who is led nowhere is told why. What is carried, and how, is asked of the carrier.

use serde_json::{Value, json};

use crate::cluster::{ADMIN, Cluster, cluster};

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
        (
            "pods/p/log/more",
            404,
            "the server could not find the requested resource",
        ),
    ] {
        let answer = cluster.get(&format!("{NAMESPACE}/{path}")).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{path}");
    }
    let node = ("system:node:n", &["system:nodes"][..]);
    for method in ["GET", "POST", "OPTIONS"] {
        let path = format!("{NAMESPACE}/pods/p:80/proxy/");
        let answer = cluster.call(node, method, &path, &[], Value::Null).await;
        assert_eq!(answer.code, 403, "{method} {}", answer.body);
    }
}

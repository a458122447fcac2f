//! The plugins in a server over a real etcd.

mod api;
mod balancers;
mod certificates;
mod cidrs;
mod evictions;
mod families;
mod kubernetes;
mod pods;
mod services;
mod types;

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use self::api::{Api, PODS, message};

fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

#[tokio::test]
async fn nothing_new_starts_in_a_namespace_that_is_missing_or_going() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    let map =
        |name: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});

    let path = "/api/v1/namespaces/n/configmaps";
    let (code, body) = api.call("POST", path, map("a")).await;
    assert_eq!((code, message(&body)), (404, "namespaces \"n\" not found"));

    api.namespace("n").await;
    Api::accepted(api.call("POST", path, map("a")).await);
    Api::accepted(
        api.call("DELETE", "/api/v1/namespaces/n", Value::Null)
            .await,
    );
    // The deletion is in the cache once a read sees it.
    let phase = Api::accepted(api.call("GET", "/api/v1/namespaces/n", Value::Null).await);
    assert_eq!(phase["status"]["phase"], "Terminating");
    let (code, body) = api.call("POST", path, map("b")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&body),
        "configmaps \"b\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(
        body["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace n is being terminated", "field": "metadata.namespace"}])
    );

    api.namespace("kube-system").await;
    let path = "/api/v1/namespaces/kube-system";
    let (code, body) = api.call("DELETE", path, Value::Null).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
        )
    );
}

#[tokio::test]
async fn pods_and_nodes_get_what_kubernetes_adds() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;

    let (code, body) = api.call("POST", PODS, pod("p")).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
        )
    );
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    Api::accepted(api.call("POST", accounts, account).await);
    let made = Api::accepted(api.call("POST", PODS, pod("p")).await);
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        spec["containers"][0]["volumeMounts"][0]["name"],
        spec["volumes"][0]["name"]
    );

    let node = |name: &str| json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}});
    let as_a = ("system:node:a", &["system:nodes"][..]);
    let made = Api::accepted(api.call_as(as_a, "POST", "/api/v1/nodes", node("a")).await);
    assert_eq!(
        made["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let (code, body) = api.call_as(as_a, "POST", "/api/v1/nodes", node("b")).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\""
        )
    );
    let (code, body) = api
        .call_as(as_a, "DELETE", &format!("{PODS}/p"), Value::Null)
        .await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "pods \"p\" is forbidden: node \"a\" can only delete pods with spec.nodeName set to itself"
        )
    );
}

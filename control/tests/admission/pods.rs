//! What pods get from their RuntimeClass, and mirrors that nodes make of their static pods.

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, PODS};

const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
const NODES: &str = "/api/v1/nodes";
const ADMIN: (&str, &[&str]) = ("admin", &["system:masters"]);
const NODE: (&str, &[&str]) = ("system:node:n1", &["system:nodes"]);

async fn create(api: &Api, user: (&str, &[&str]), path: &str, body: Value) -> (u16, Value) {
    api.call_as(user, "POST", path, body).await
}

fn pod(name: &str, mut spec: Value) -> Value {
    spec["containers"] = json!([{"name": "c", "image": "i"}]);
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_class_says_what_its_pods_cost_and_where_they_run() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    create(&api, ADMIN, accounts, account).await;
    let class = json!({
        "kind": "RuntimeClass", "apiVersion": "node.k8s.io/v1",
        "metadata": {"name": "fast"}, "handler": "vetch",
        "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {"nodeSelector": {"disk": "ssd"}},
    });
    let (status, answer) = create(&api, ADMIN, CLASSES, class).await;
    assert_eq!(status, 201, "{answer}");
    let (status, made) = create(
        &api,
        ADMIN,
        PODS,
        pod("a", json!({"runtimeClassName": "fast"})),
    )
    .await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["spec"]["overhead"], json!({"cpu": "100m"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"disk": "ssd"}));
    for (spec, words) in [
        (
            json!({"runtimeClassName": "none"}),
            "pod rejected: RuntimeClass \"none\" not found",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
    ] {
        let (status, answer) = create(&api, ADMIN, PODS, pod("b", spec)).await;
        let message = answer["message"].as_str().unwrap();
        assert!(status == 403 && message.ends_with(words), "{answer}");
    }
}

#[tokio::test]
async fn a_node_creates_mirrors_alone() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "n1"}});
    let (status, node) = create(&api, NODE, NODES, node).await;
    assert_eq!(status, 201, "{node}");
    let mirror = |name: &str| {
        let mut mirror = pod(name, json!({"nodeName": "n1"}));
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "h"});
        mirror["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": node["metadata"]["uid"], "controller": true},
        ]);
        mirror
    };
    let (status, made) = create(&api, NODE, PODS, mirror("own-n1")).await;
    assert_eq!(status, 201, "{made}");
    // The API server gives it nothing that would have to be read from it.
    assert_eq!(made["spec"]["serviceAccountName"], Value::Null);
    assert_eq!(made["spec"]["volumes"], Value::Null);

    let mut secret = mirror("secret-n1");
    secret["spec"]["imagePullSecrets"] = json!([{"name": "s"}]);
    let mut stranger = mirror("other-n1");
    stranger["spec"]["nodeName"] = json!("n2");
    for refused in [secret, stranger, pod("plain", json!({"nodeName": "n1"}))] {
        let (status, answer) = create(&api, NODE, PODS, refused).await;
        assert_eq!(status, 403, "{answer}");
    }
    // What it is stays, also for administrators.
    let patch = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
    let path = format!("{PODS}/own-n1");
    let (status, answer) = api.call_as(ADMIN, "PATCH", &path, patch).await;
    assert_eq!(status, 422, "{answer}");
}

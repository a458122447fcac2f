//! pods/exec, pods/attach and pods/portforward: who is led nowhere is told why, and what the kubelet is asked. What is carried once both
//! have changed the protocol is asked of the carrier, and of the real kubectl.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use vetch_identity::User;

use super::cluster::{ADMIN, Answer, Cluster, cluster};
use super::logs::{Seen, kubelet, node};

const PODS: &str = "/api/v1/namespaces/default/pods";
const UPGRADE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "websocket")];

async fn upgrade(cluster: &Cluster, method: &str, path: &str) -> Answer {
    let path = format!("{PODS}/{path}");
    cluster
        .call(ADMIN, method, &path, &UPGRADE, Value::Null)
        .await
}

#[tokio::test]
async fn the_kubelet_is_asked_in_its_own_words() {
    let cluster = cluster().await;
    let seen = Arc::new(Seen::default());
    let address = kubelet(&cluster.pki, seen.clone()).await;
    node(&cluster, address).await;
    cluster.pod("p", "default", "n").await;
    let words = "container not found (\"c\")";
    for (method, asked, wanted) in [
        (
            "GET",
            "exec?command=echo&command=a%26b&stdin=true&stdout=true&stderr=true&container=c",
            "/exec/default/p/c?input=1&output=1&error=1&command=echo&command=a%26b",
        ),
        (
            "POST",
            "exec?stdout=true&tty=true&command=sh",
            "/exec/default/p/c?output=1&tty=1&command=sh",
        ),
        ("GET", "attach?stdout=true", "/attach/default/p/c?output=1"),
        ("GET", "portforward", "/portForward/default/p"),
        (
            "POST",
            "portforward?ports=80&ports=443",
            "/portForward/default/p?port=80,443",
        ),
    ] {
        let (pieces, script) = mpsc::unbounded_channel();
        pieces.send(words).unwrap();
        drop(pieces);
        seen.script.lock().unwrap().push((500, script));
        let answer = upgrade(&cluster, method, &format!("p/{asked}")).await;
        // As the kubelet says it, and nothing around it.
        assert_eq!((answer.code, answer.body), (500, Value::from(words)));
        let requests = std::mem::take(&mut *seen.requests.lock().unwrap());
        let client = User::new("kube-apiserver-kubelet-client", &["system:masters"]);
        assert_eq!(requests, [(wanted.to_owned(), Some(client))]);
    }
}

#[tokio::test]
async fn who_is_led_nowhere_is_told_why() {
    let cluster = cluster().await;
    let closed: SocketAddr = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    node(&cluster, closed).await;
    cluster.pod("p", "default", "n").await;
    cluster.pod("lost", "default", "gone").await;
    let several = json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]);
    let pending = json!({"metadata": {"name": "pending"}, "spec": {"containers": several}});
    cluster.create(PODS, pending).await;
    let unreachable =
        format!("error dialing backend: dial tcp {closed}: connect: connection refused");
    for (method, path, code, message) in [
        ("GET", "none/exec", 404, "pods \"none\" not found"),
        ("GET", "lost/exec", 404, "nodes \"gone\" not found"),
        (
            "GET",
            "p/exec?container=x",
            400,
            "container x is not valid for pod p",
        ),
        (
            "POST",
            "pending/attach",
            400,
            "a container name must be specified for pod pending, choose one of: [a b]",
        ),
        // Its containers share their ports.
        (
            "POST",
            "pending/portforward",
            400,
            "pod pending does not have a host assigned",
        ),
        (
            "GET",
            "pending/exec?container=b",
            400,
            "pod pending does not have a host assigned",
        ),
        ("GET", "p/exec?stdout=true", 500, &unreachable),
        (
            "PUT",
            "p/exec",
            405,
            "the server does not allow this method on the requested resource",
        ),
    ] {
        let answer = upgrade(&cluster, method, path).await;
        assert_eq!((answer.code, answer.message()), (code, message), "{path}");
    }
    let plain = cluster.get(&format!("{PODS}/p/exec?stdout=true")).await;
    assert_eq!(
        (plain.code, plain.message()),
        (400, "Upgrade request required")
    );
    // A node has nothing to run in pods of others.
    let other = ("system:node:m", &["system:nodes"][..]);
    let path = format!("{PODS}/p/exec");
    let answer = cluster
        .call(other, "GET", &path, &UPGRADE, Value::Null)
        .await;
    assert_eq!(answer.code, 403, "{}", answer.body);
}

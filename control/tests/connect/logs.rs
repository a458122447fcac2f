//! pods/log, with a kubelet of our own at the other end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use vetch_identity::{Kept, Pki, Usage, User, Wanted, server_config};

use super::cluster::{ADMIN, Cluster, cluster};
use super::tls;

const PODS: &str = "/api/v1/namespaces/default/pods";
const LIMIT: Duration = Duration::from_secs(30);
pub const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// What the next request gets: a code, and its body piece by piece.
pub type Script = (u16, mpsc::UnboundedReceiver<&'static str>);

#[derive(Default)]
pub struct Seen {
    pub requests: Mutex<Vec<(String, Option<User>)>>,
    /// What each offered to speak.
    pub subprotocols: Mutex<Vec<Option<String>>>,
    pub script: Mutex<Vec<Script>>,
}

pub async fn kubelet(pki: &Pki, seen: Arc<Seen>) -> SocketAddr {
    let wanted = Wanted {
        file: "kubelet",
        common_name: "node",
        organization: None,
        usage: Usage::Server(vec!["node.example".to_owned()]),
    };
    let certificate = Arc::new(Kept::open(pki, wanted, Timestamp::now()).unwrap());
    let acceptor = TlsAcceptor::from(server_config(pki, certificate).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(stream).await.unwrap();
            let shown = stream.get_ref().1.peer_certificates();
            let user = shown.and_then(|chain| User::of_certificate(&chain[0]));
            let seen = seen.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let asked = (request.uri().to_string(), user.clone());
                seen.requests.lock().unwrap().push(asked);
                let offered = request.headers().get(SEC_WEBSOCKET_PROTOCOL);
                let offered = offered.map(|own| own.to_str().unwrap().to_owned());
                seen.subprotocols.lock().unwrap().push(offered);
                let (code, pieces) = seen.script.lock().unwrap().pop().unwrap();
                let pieces = futures::stream::unfold(pieces, async |mut pieces| {
                    Some((pieces.recv().await?, pieces))
                });
                let body = Body::from_stream(pieces.map(|piece| {
                    Ok::<_, std::convert::Infallible>(Bytes::from_static(piece.as_bytes()))
                }));
                let response = Response::builder().status(code).body(body).unwrap();
                async { Ok::<_, std::convert::Infallible>(response) }
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

pub async fn node(cluster: &Cluster, address: SocketAddr) {
    cluster
        .create("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await;
    let status = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": address.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
    }});
    let media = [("content-type", "application/merge-patch+json")];
    cluster
        .call(ADMIN, "PATCH", "/api/v1/nodes/n/status", &media, status)
        .await
        .expect(200);
}

#[tokio::test]
async fn logs_flow_from_the_kubelet_as_they_come() {
    let cluster = cluster().await;
    let seen = Arc::new(Seen::default());
    let address = kubelet(&cluster.pki, seen.clone()).await;
    node(&cluster, address).await;
    cluster.pod("p", "default", "n").await;

    let (pieces, script) = mpsc::unbounded_channel();
    seen.script.lock().unwrap().push((200, script));
    pieces.send("one\n").unwrap();
    let path = format!("{PODS}/p/log?follow=true&tailLines=5&pretty=true");
    let response = cluster.send(ADMIN, "GET", &path, &[], Value::Null).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain");
    let mut body = response.into_body();
    // The first line is here while the kubelet has not yet the second.
    for line in ["one\n", "two\n"] {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), line);
        let _ = pieces.send("two\n");
    }
    drop(pieces);

    let requests = std::mem::take(&mut *seen.requests.lock().unwrap());
    let [(uri, user)] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert!(
        uri.ends_with("/containerLogs/default/p/c?follow=true&tailLines=5"),
        "{uri}"
    );
    let client = User::new("kube-apiserver-kubelet-client", &["system:masters"]);
    assert_eq!(user.as_ref(), Some(&client));
}

pub fn handshake(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    HANDSHAKE
        .into_iter()
        .fold(request, |request, (name, value)| {
            request.header(name, value)
        })
}

#[tokio::test]
async fn a_web_socket_gets_each_piece_as_it_comes() {
    let cluster = cluster().await;
    let seen = Arc::new(Seen::default());
    let address = kubelet(&cluster.pki, seen.clone()).await;
    node(&cluster, address).await;
    cluster.pod("p", "default", "n").await;
    let url = format!("{}{PODS}/p/log?follow=true", tls::listen(&cluster).await);
    let admin = cluster.pki.client("admin", Some("system:masters")).unwrap();
    // Of HTTP/2 there is no way to another protocol.
    let client = tls::client(&cluster.pki, Some(admin)).http1_only().build();
    let client = client.unwrap();
    let ask = |protocol: &str| {
        let (pieces, script) = mpsc::unbounded_channel();
        seen.script.lock().unwrap().push((200, script));
        let request = handshake(client.get(&url)).header(SEC_WEBSOCKET_PROTOCOL, protocol);
        (pieces, request.send())
    };
    for (protocol, wanted) in [
        ("binary.k8s.io", ["", "one\n", "two\n"].map(Message::binary)),
        (
            "base64.binary.k8s.io",
            ["", "b25lCg==", "dHdvCg=="].map(Message::text),
        ),
    ] {
        let (pieces, answer) = ask(protocol);
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], protocol);
        let stream = answer.upgrade().await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        // Each is here while the kubelet has not yet the next.
        for (message, next) in wanted.into_iter().zip(["one\n", "two\n", ""]) {
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
            pieces.send(next).unwrap();
        }
        drop(pieces);
        let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else {
            panic!("no close message")
        };
        assert_eq!(close.code, CloseCode::Normal);
    }

    let (_pieces, answer) = ask("v4.channel.k8s.io");
    assert_eq!(answer.await.unwrap().status(), 403);
    // What is refused before there is a stream is refused as ever.
    let (pieces, answer) = ask("binary.k8s.io");
    let words = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating";
    pieces.send(words).unwrap();
    drop(pieces);
    seen.script.lock().unwrap().last_mut().unwrap().0 = 400;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("is waiting to start"));
}

#[tokio::test]
async fn what_the_kubelet_refuses_is_told_in_its_words() {
    let cluster = cluster().await;
    let seen = Arc::new(Seen::default());
    let address = kubelet(&cluster.pki, seen.clone()).await;
    node(&cluster, address).await;
    cluster.pod("p", "default", "n").await;
    let path = format!("{PODS}/p/log");
    let words = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating";
    for (code, reason, message) in [
        (400, "BadRequest", words.to_owned()),
        (
            404,
            "NotFound",
            "the server could not find the requested resource ( pods/log p)".to_owned(),
        ),
        (
            500,
            "InternalError",
            format!("Internal error occurred: {words}"),
        ),
    ] {
        let (pieces, script) = mpsc::unbounded_channel();
        pieces.send(words).unwrap();
        drop(pieces);
        seen.script.lock().unwrap().push((code, script));
        let answer = cluster.get(&path).await;
        assert_eq!((answer.code, answer.message()), (code, message.as_str()));
        assert_eq!(answer.body["reason"], reason);
    }

    // Of one that never ends, as much as Kubernetes reads.
    let (pieces, script) = mpsc::unbounded_channel();
    let part: &'static str = "x".repeat(10_000).leak();
    for _ in 0..6 {
        pieces.send(part).unwrap();
    }
    seen.script.lock().unwrap().push((500, script));
    let answer = tokio::time::timeout(LIMIT, cluster.get(&path)).await;
    let answer = answer.expect("the end of it is waited for");
    let words = part.repeat(5);
    assert_eq!(answer.code, 500);
    assert!(answer.message() == format!("Internal error occurred: {words}"));
    drop(pieces);
}

#[tokio::test]
async fn who_has_no_logs_is_told_why() {
    let cluster = cluster().await;
    let closed = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    node(&cluster, closed).await;
    cluster.pod("p", "default", "n").await;
    cluster.pod("lost", "default", "gone").await;
    let pending = json!({"metadata": {"name": "pending"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create(PODS, pending).await;
    let unreachable = format!(
        "Get \"https://{closed}/containerLogs/default/p/c\": dial tcp {closed}: connect: connection refused"
    );
    for (pod, code, message) in [
        ("none", 404, "pods \"none\" not found"),
        ("lost", 404, "nodes \"gone\" not found"),
        ("p", 500, unreachable.as_str()),
    ] {
        let answer = cluster.get(&format!("{PODS}/{pod}/log")).await;
        assert_eq!((answer.code, answer.message()), (code, message));
    }
    // Not an error: nothing has been written yet.
    let plain: &[(&str, &str)] = &[];
    for headers in [plain, &HANDSHAKE] {
        let path = format!("{PODS}/pending/log?follow=true");
        let answer = cluster
            .send(ADMIN, "GET", &path, headers, Value::Null)
            .await;
        assert_eq!(answer.status(), 204, "{headers:?}");
        assert!(!answer.headers().contains_key("content-type"));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty(), "{body:?}");
    }
}

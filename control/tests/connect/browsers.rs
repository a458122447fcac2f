//! A browser's WebSocket has no header for its token, which is among the subprotocols it offers.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, Request};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower::ServiceExt as _;
use vetch_control::access::Access;
use vetch_identity::User;
use vetch_server::Server;
use vetch_server::guard::{Action, Guard};

use super::cluster::{Cluster, guarded};
use super::logs::{HANDSHAKE, Seen, handshake, kubelet, node};
use super::tls;

const PODS: &str = "/api/v1/namespaces/default/pods";
const ACCOUNT: &str = "system:serviceaccount:default:app";

/// Without roles nothing lets an account into pods; here this one is let.
struct Let(Access);

impl Guard for Let {
    fn authenticate<'a>(
        &'a self,
        server: &'a Server,
        headers: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>> {
        self.0.authenticate(server, headers, certificate)
    }

    fn authorize<'a>(
        &'a self,
        server: &'a Server,
        user: &'a User,
        action: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>> {
        match user.name == ACCOUNT {
            true => async { Ok(()) }.boxed(),
            false => self.0.authorize(server, user, action),
        }
    }
}

struct Place {
    cluster: Cluster,
    seen: Arc<Seen>,
    /// The account's token, as a subprotocol.
    bearer: String,
}

async fn place() -> Place {
    let cluster = guarded(|access| Arc::new(Let(access))).await;
    let seen = Arc::new(Seen::default());
    let address = kubelet(&cluster.pki, seen.clone()).await;
    node(&cluster, address).await;
    cluster.pod("p", "default", "n").await;
    let path = "/api/v1/namespaces/default/serviceaccounts/app/token";
    let wanted =
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}});
    let made = cluster.create(path, wanted).await;
    let bearer = subprotocol(made["status"]["token"].as_str().unwrap());
    Place {
        cluster,
        seen,
        bearer,
    }
}

fn subprotocol(token: &str) -> String {
    let encoded = URL_SAFE_NO_PAD.encode(token);
    format!("base64url.bearer.authorization.k8s.io.{encoded}")
}

#[tokio::test]
async fn a_web_socket_is_served_for_its_token() {
    let Place {
        cluster,
        seen,
        bearer,
    } = place().await;
    let wrong = subprotocol("nobody");
    let url = format!("{}{PODS}/p/log?follow=true", tls::listen(&cluster).await);
    let client = tls::client(&cluster.pki, None).http1_only().build();
    let client = client.unwrap();
    for (offered, code) in [
        (format!("{bearer}, binary.k8s.io"), 101),
        (format!("{wrong}, binary.k8s.io"), 401),
        (bearer.clone(), 401),
        (format!("{bearer}, {bearer}, binary.k8s.io"), 401),
        // The anonymous user's.
        ("binary.k8s.io".to_owned(), 403),
    ] {
        let (pieces, script) = mpsc::unbounded_channel();
        pieces.send("one\n").unwrap();
        seen.script.lock().unwrap().push((200, script));
        let request = handshake(client.get(&url)).header(SEC_WEBSOCKET_PROTOCOL, &offered);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), code, "{offered}");
        let asked = std::mem::take(&mut *seen.requests.lock().unwrap());
        assert_eq!(asked.len(), usize::from(code == 101), "{asked:?}");
        if code != 101 {
            continue;
        }
        assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], "binary.k8s.io");
        let stream = answer.upgrade().await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        for wanted in ["", "one\n"] {
            let message = socket.next().await.unwrap().unwrap();
            assert_eq!(message, Message::binary(wanted));
        }
    }
    // Nor is it read of a request that stays what it is.
    let offered = format!("{bearer}, binary.k8s.io");
    let request = client.get(&url).header(SEC_WEBSOCKET_PROTOCOL, &offered);
    assert_eq!(request.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn no_kubelet_sees_the_token() {
    let Place {
        cluster,
        seen,
        bearer,
    } = place().await;
    for (path, offered) in [
        (
            "p/exec?stdout=true&command=sh",
            format!("{bearer}, v5.channel.k8s.io, v4.channel.k8s.io"),
        ),
        (
            "p/attach?stdout=true",
            format!("v5.channel.k8s.io, {bearer}, v4.channel.k8s.io"),
        ),
        (
            "p/portforward",
            format!("v5.channel.k8s.io, v4.channel.k8s.io, {bearer}"),
        ),
    ] {
        let (pieces, script) = mpsc::unbounded_channel();
        drop(pieces);
        // What it answers is of no interest.
        seen.script.lock().unwrap().push((500, script));
        let request = HANDSHAKE.into_iter().fold(
            Request::get(format!("{PODS}/{path}")),
            |request, (name, value)| request.header(name, value),
        );
        let request = request
            .header(SEC_WEBSOCKET_PROTOCOL, &offered)
            .body(Body::empty())
            .unwrap();
        let answer = cluster.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 500, "{path}");
        let told = std::mem::take(&mut *seen.subprotocols.lock().unwrap());
        let left = "v5.channel.k8s.io, v4.channel.k8s.io".to_owned();
        assert_eq!(told, [Some(left)], "{path}");
    }
}

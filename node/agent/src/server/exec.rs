//! `/exec/{namespace}/{pod}/{container}`: a process in a running container, its streams over a WebSocket.
//!
//! [`options`] says what is asked for, [`channels`] what the messages mean, [`stdio`] has the process's descriptors and
//! [`session`] carries bytes between the two. SPDY, which Kubernetes spoke before WebSockets, is refused in words.

mod channels;
mod options;
mod session;
mod stdio;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tracing::debug;
use vetch_runtime::{Chain, ContainerId, ContainerState, ExecProcess, SandboxStatus};

use super::Shared;
use channels::Protocol;
use options::Options;

/// The kubelet's code and words.
type Refused = (StatusCode, String);

pub async fn run(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let begun = async {
        let options = Options::parse(query).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
        // Before the handshake: a client that falls back to SPDY hears these words again, and shows them.
        let id = find(&shared, &namespace, &pod, &container).await?;
        begin(&shared, id, options, request)
    };
    match begun.await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

async fn find(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<ContainerId, Refused> {
    let uid = match shared.pods.find(namespace, pod).await {
        Ok(Some(found)) => found.metadata.uid,
        Ok(None) => return Err((StatusCode::NOT_FOUND, "pod does not exist".to_owned())),
        // The runtime knows its pods' names too.
        Err(error) => {
            debug!(%error, namespace, pod, "exec without the pod's uid");
            None
        }
    };
    let sandboxes = shared.runtime.list().await;
    running(&sandboxes, namespace, pod, uid.as_deref(), container).ok_or_else(|| {
        let words = format!("container not found ({container:?})");
        (StatusCode::INTERNAL_SERVER_ERROR, words)
    })
}

fn running(
    sandboxes: &[SandboxStatus],
    namespace: &str,
    pod: &str,
    uid: Option<&str>,
    container: &str,
) -> Option<ContainerId> {
    let of_pod = sandboxes.iter().filter(|sandbox| {
        let spec = &sandbox.spec;
        let same = uid.is_none_or(|uid| spec.pod_uid == uid);
        same && spec.namespace == namespace && spec.name == pod
    });
    of_pod
        .flat_map(|sandbox| &sandbox.containers)
        .find(|known| known.name == container && known.state == ContainerState::Running)
        .map(|known| known.id.clone())
}

/// Answers with the change of protocol; the session runs on beside.
fn begin(
    shared: &Shared,
    id: ContainerId,
    options: Options,
    mut request: Request,
) -> Result<Response, Refused> {
    let (mut response, protocol) = shake_hands(&request)?;
    let name = HeaderValue::from_static(protocol.name());
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    let upgrade = hyper::upgrade::on(&mut request);
    let (runtime, shutdown) = (shared.runtime.clone(), shared.shutdown.clone());
    let session = async move {
        let stream = match upgrade.await {
            Ok(stream) => TokioIo::new(stream),
            Err(error) => return debug!(%error, "exec: the connection was not upgraded"),
        };
        let start = |stdio| {
            let process = runtime.exec_process(&id, options.command.clone(), options.tty, stdio);
            async move { process.await.map_err(|error| Chain(&error).to_string()) }
        };
        if let Err(error) = session::serve(stream, protocol, &options, start).await {
            debug!(%error, container = %id, "exec: the client is gone");
        }
    };
    tokio::spawn(async move { shutdown.run_until_cancelled(session).await });
    Ok(response)
}

fn shake_hands(request: &Request) -> Result<(Response, Protocol), Refused> {
    let headers = request.headers();
    let bad = |words: String| (StatusCode::BAD_REQUEST, words);
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    match upgrade {
        None => return Err(bad("Upgrade request required".to_owned())),
        Some(protocol) if !protocol.eq_ignore_ascii_case("websocket") => {
            let version = env!("CARGO_PKG_VERSION");
            return Err(bad(format!(
                "vetch {version} runs commands over WebSockets (kubectl 1.31 and newer), not over {protocol}"
            )));
        }
        Some(_) => {}
    }
    let response = create_response_with_body(request, Body::empty)
        .map_err(|error| bad(format!("unable to upgrade: {error}")))?;
    let asked = subprotocols(headers);
    let protocol = Protocol::choose(&asked).ok_or_else(|| {
        let words = format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]",
            asked.join(" "),
            Protocol::ALL.map(Protocol::name).join(" ")
        );
        // As Go's server refuses a handshake.
        (StatusCode::FORBIDDEN, words)
    })?;
    Ok((response, protocol))
}

fn subprotocols(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

impl session::Process for ExecProcess {
    async fn wait(&mut self) -> Result<i32, String> {
        let ended = ExecProcess::wait(self).await;
        ended.map_err(|error| Chain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use vetch_runtime::{ContainerStatus, SandboxState};

    use super::*;
    use crate::pods::testing;

    fn sandbox(uid: &str, state: ContainerState) -> SandboxStatus {
        let app = ContainerStatus {
            id: ContainerId(format!("of-{uid}")),
            ..testing::container("app", 0, state)
        };
        let mut sandbox = testing::sandbox(0, SandboxState::Ready, vec![app]);
        sandbox.spec.pod_uid = uid.to_owned();
        sandbox
    }

    #[test]
    fn handshakes() {
        let websocket = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let shake = |headers: &[(&str, &str)], protocols: Option<&str>| {
            let mut request = Request::builder().uri("/exec/a/b/c");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(protocols) = protocols {
                request = request.header("sec-websocket-protocol", protocols);
            }
            let request = request.body(Body::empty()).unwrap();
            match shake_hands(&request) {
                // RFC 6455, 1.3: the answer to this key.
                Ok((response, protocol)) => {
                    let accepted = &response.headers()["sec-websocket-accept"];
                    assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                    (response.status().as_u16(), protocol.name().to_owned())
                }
                Err((code, words)) => (code.as_u16(), words),
            }
        };
        let version = env!("CARGO_PKG_VERSION");
        for (headers, protocols, code, words) in [
            (
                &websocket[..],
                Some("v5.channel.k8s.io"),
                101,
                "v5.channel.k8s.io",
            ),
            (
                &websocket,
                Some("x, v4.channel.k8s.io"),
                101,
                "v4.channel.k8s.io",
            ),
            (
                &websocket,
                Some("v4.base64.channel.k8s.io, x"),
                403,
                "requested protocol(s) are not supported: [v4.base64.channel.k8s.io x]; supports [v5.channel.k8s.io v4.channel.k8s.io]",
            ),
            (&[], None, 400, "Upgrade request required"),
            (
                &spdy,
                None,
                400,
                &format!(
                    "vetch {version} runs commands over WebSockets (kubectl 1.31 and newer), not over SPDY/3.1"
                ),
            ),
        ] {
            let answer = shake(headers, protocols);
            assert_eq!(
                answer,
                (code, words.to_owned()),
                "{headers:?} {protocols:?}"
            );
        }
        let (code, words) = shake(&websocket[..3], Some("v5.channel.k8s.io"));
        assert_eq!(code, 400);
        assert!(words.starts_with("unable to upgrade: "), "{words}");
    }

    #[test]
    fn only_what_runs_is_found() {
        // The pod before of the same name, the one that is meant, and one that ended.
        let sandboxes = [
            sandbox("u0", ContainerState::Running),
            sandbox("u1", ContainerState::Running),
            sandbox("u2", ContainerState::Exited),
        ];
        for (pod, uid, container, wanted) in [
            ("web", Some("u1"), "app", Some("of-u1")),
            ("web", Some("u2"), "app", None),
            ("web", Some("u1"), "other", None),
            ("none", None, "app", None),
            ("web", None, "app", Some("of-u0")),
        ] {
            let found = running(&sandboxes, "shop", pod, uid, container);
            assert_eq!(found.map(|id| id.0).as_deref(), wanted, "{pod} {uid:?}");
        }
    }
}

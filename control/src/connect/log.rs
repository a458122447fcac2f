//! pods/log: the kubelet of the pod's node has it; what it sends goes on to the client as it comes, plain or in the
//! messages of a WebSocket.

mod options;

use std::error::Error;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use vetch_identity::Kept;
use vetch_server::Server;
use vetch_server::connect::{Forward, Forwarded};
use vetch_server::request::Query;
use vetch_server::status::{Result, Status};
use vetch_server::upgrade;

use super::ConnectError;
use super::kubelet::{self, Kubelet, unreachable};
use super::web_socket;

pub struct PodLog {
    client: reqwest::Client,
}

impl PodLog {
    pub fn new(certificate: Arc<Kept>) -> Result<PodLog, ConnectError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(vetch_identity::client_config(certificate)?)
            .connect_timeout(std::time::Duration::from_secs(10))
            .no_proxy()
            .build()?;
        Ok(PodLog { client })
    }

    async fn stream(&self, server: &Server, forwarded: Forwarded) -> Result<Response> {
        let Forwarded { target, request } = forwarded;
        if request.method() != Method::GET {
            return Err(Status::method_not_allowed());
        }
        let query = Query::parse(request.uri());
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let name = target.name.as_deref().unwrap_or_default();
        options::check(&query, name)?;
        let located = kubelet::locate(server, &target, query.text("container")).await?;
        let container = located.container;
        let Some(Kubelet { node, host }) = located.kubelet else {
            // Nobody has written anything yet: nor is there anything to change the protocol for.
            let mut nothing = Response::new(Body::empty());
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        };
        let url = format!("https://{host}/containerLogs/{namespace}/{name}/{container}");
        let asked = self.client.get(&url).query(&options::passed_on(&query));
        let answer = asked
            .send()
            .await
            .map_err(|error| unreachable(format!("Get {url:?}: {}", why(&host, &error))))?;
        let code = answer.status();
        if code.is_success() {
            let pieces = answer.bytes_stream();
            return match upgrade::is_web_socket(request.headers()) {
                true => web_socket::answer(request, pieces),
                false => Ok(text(Body::from_stream(pieces))),
            };
        }
        let words = kubelet::words(answer).await;
        let words = words.map_err(|error| Status::internal(why(&host, &error)))?;
        Err(match code {
            StatusCode::BAD_REQUEST => Status::bad_request(words),
            StatusCode::INTERNAL_SERVER_ERROR => Status::internal(words),
            StatusCode::NOT_FOUND => Status {
                details: Some(json!({"name": name, "kind": "pods/log", "causes": [
                    {"reason": "UnexpectedServerResponse", "message": words},
                ]})),
                ..Status::new(
                    code,
                    "NotFound",
                    format!("the server could not find the requested resource ( pods/log {name})"),
                )
            },
            _ => Status::internal(format!("the kubelet of {node} answered {code}: {words}")),
        })
    }
}

/// What went wrong below HTTP, the way Go's client says it.
fn why(host: &str, error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    if error.is_timeout() {
        format!("dial tcp {host}: i/o timeout")
    } else if error.is_connect() {
        super::dial_error(host, innermost)
    } else {
        innermost.to_string()
    }
}

fn text(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

impl Forward for PodLog {
    fn forward<'a>(
        &'a self,
        server: &'a Server,
        forwarded: Forwarded,
    ) -> BoxFuture<'a, Result<Response>> {
        Box::pin(self.stream(server, forwarded))
    }
}

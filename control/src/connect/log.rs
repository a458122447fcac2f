//! pods/log: the kubelet of the pod's node has it; what it sends goes on to the client as it comes.

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
use vetch_server::connect::{Call, Connect};
use vetch_server::status::{Result, Status};

use super::ConnectError;
use super::kubelet::{self, Kubelet, unreachable};

/// Longest body of a refusal that is passed on.
const WORDS_LIMIT: usize = 2048;

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

    async fn stream(&self, server: &Server, call: &Call) -> Result<Response> {
        super::only(&Method::GET, call)?;
        let namespace = call.target.namespace.as_deref().unwrap_or_default();
        let name = call.target.name.as_deref().unwrap_or_default();
        options::check(&call.query, name)?;
        let located = kubelet::locate(server, &call.target, call.query.text("container")).await?;
        let container = located.container;
        let Some(Kubelet { node, host }) = located.kubelet else {
            // Nobody has written anything yet.
            return Ok(text(Body::empty()));
        };
        let url = format!("https://{host}/containerLogs/{namespace}/{name}/{container}");
        let request = self
            .client
            .get(&url)
            .query(&options::passed_on(&call.query));
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(format!("Get {url:?}: {}", why(&host, &error))))?;
        let code = answer.status();
        if code.is_success() {
            return Ok(text(Body::from_stream(answer.bytes_stream())));
        }
        let words = answer.text().await.unwrap_or_default();
        let words: String = words.trim_end().chars().take(WORDS_LIMIT).collect();
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

impl Connect for PodLog {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>> {
        Box::pin(async move { self.stream(server, &call).await })
    }
}

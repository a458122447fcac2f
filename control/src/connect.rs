//! Subresources and kinds that are answered instead of stored.

mod carry;
mod headers;
mod kubelet;
mod log;
mod proxy;
mod review;
mod stream;
mod token;
mod web_socket;

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use vetch_identity::{Kept, TlsError};
use vetch_server::connect::{Call, Connector};
use vetch_server::status::{Result, Status};

use crate::access::Access;

pub use kubelet::KUBELET_CLIENT;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot make the client of the kubelets")]
    Client(#[from] reqwest::Error),
}

/// All of them, by the keys the server looks for.
pub fn connectors(
    access: &Access,
    kubelet_client: Arc<Kept>,
) -> Result<HashMap<&'static str, Connector>, ConnectError> {
    let mut all: HashMap<&'static str, Connector> = HashMap::new();
    let stream = Arc::new(stream::Streams::new(kubelet_client.clone())?);
    for key in stream::KEYS {
        all.insert(key, Connector::Forward(stream.clone()));
    }
    let proxy = Arc::new(proxy::Proxy::new(kubelet_client.clone())?);
    for key in proxy::KEYS {
        all.insert(key, Connector::Forward(proxy.clone()));
    }
    let log = log::PodLog::new(kubelet_client)?;
    all.insert("pods/log", Connector::Forward(Arc::new(log)));
    let token = token::Token::new(access.tokens().clone());
    all.insert("serviceaccounts/token", Connector::Answer(Arc::new(token)));
    for (key, answer) in review::answers(access) {
        all.insert(key, Connector::Answer(answer));
    }
    Ok(all)
}

/// A failure to connect, the way Go's client says it.
fn dial_error(host: &str, cause: &dyn std::fmt::Display) -> String {
    let cause = cause.to_string();
    // The number behind it is Rust's addition.
    let cause = cause.split(" (os error").next().unwrap_or_default();
    format!("dial tcp {host}: connect: {}", cause.to_lowercase())
}

fn only(method: &Method, call: &Call) -> Result<()> {
    if call.method == method {
        Ok(())
    } else {
        Err(Status::method_not_allowed())
    }
}

/// The request's object, as its type.
fn body<T: DeserializeOwned>(call: &Call) -> Result<T> {
    serde_json::from_slice(&call.body).map_err(|error| {
        Status::bad_request(format!(
            "the body of the request is no such object: {error}"
        ))
    })
}

fn created(object: &Value) -> Response {
    let mut response = Response::new(Body::from(object.to_string()));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

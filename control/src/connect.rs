//! Subresources and kinds that are answered instead of stored.

mod log;
mod review;
mod token;

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use vetch_identity::{Kept, TlsError};
use vetch_server::connect::{Call, Connect};
use vetch_server::status::{Result, Status};

use crate::access::Access;

pub use log::KUBELET_CLIENT;

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
) -> Result<HashMap<&'static str, Arc<dyn Connect>>, ConnectError> {
    let mut all: HashMap<&'static str, Arc<dyn Connect>> = HashMap::new();
    all.insert("pods/log", Arc::new(log::PodLog::new(kubelet_client)?));
    all.insert(
        "serviceaccounts/token",
        Arc::new(token::Token::new(access.tokens().clone())),
    );
    for (key, answer) in review::answers(access) {
        all.insert(key, answer);
    }
    Ok(all)
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

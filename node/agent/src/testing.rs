//! Helpers of this crate's tests.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;

/// A client of an API server that is one function: status and body of each answer.
pub fn api(answer: impl Fn(Parts, Bytes) -> (u16, Value) + Send + Sync + 'static) -> kube::Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (status, value) = answer(parts, body);
            let response = http::Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Body::from(value.to_string().into_bytes()));
            Ok::<_, tower::BoxError>(response?)
        }
    });
    kube::Client::new(service, "default")
}

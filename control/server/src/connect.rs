//! Subresources and kinds that are answered, not stored: logs, tokens, reviews, and what other servers answer.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request};
use vetch_identity::User;

use crate::request::{Query, Target};
use crate::state::Server;
use crate::status::Result;

/// A request to such a subresource, already allowed.
pub struct Call {
    pub method: Method,
    pub target: Target,
    pub query: Query,
    pub user: User,
    pub body: Bytes,
}

pub trait Connect: Send + Sync {
    fn call<'a>(&'a self, server: &'a Server, call: Call) -> BoxFuture<'a, Result<Response>>;
}

/// A request that another server answers, already allowed: whole, its body not yet read.
pub struct Forwarded {
    pub target: Target,
    pub request: Request<Body>,
}

pub trait Forward: Send + Sync {
    fn forward<'a>(
        &'a self,
        server: &'a Server,
        forwarded: Forwarded,
    ) -> BoxFuture<'a, Result<Response>>;
}

/// Who answers.
#[derive(Clone)]
pub enum Connector {
    Answer(Arc<dyn Connect>),
    Forward(Arc<dyn Forward>),
}

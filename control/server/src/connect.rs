//! Subresources and kinds that are answered, not stored: logs, tokens, reviews.

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::Method;
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

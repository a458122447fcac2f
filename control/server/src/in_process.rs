//! A `kube::Client` for parts of this process: no socket, no TLS, the same handlers.

use axum::Router;
use axum::body::Body;
use http::Request;
use tower::ServiceExt as _;
use vetch_identity::User;

use crate::dispatch::Trusted;

/// A client that acts as `user`; whoever holds the router is trusted to name it.
pub fn client(router: &Router, user: &str, groups: &[&str]) -> kube::Client {
    let mut user = User::new(user, groups);
    user.groups.push("system:authenticated".into());
    let service = router
        .clone()
        .map_request(move |request: Request<kube::client::Body>| {
            let (mut parts, body) = request.into_parts();
            parts.extensions.insert(Trusted(user.clone()));
            Request::from_parts(parts, Body::new(body))
        });
    kube::Client::new(service, "default")
}

//! pods/proxy and services/proxy: the request goes on to a server in a pod, and its answer comes back.
//!
//! [`locate`] finds the server by the objects alone, [`forward`] has the request carried, [`rewrite`] leads redirects back
//! through here. Links in pages are left as they are.

mod forward;
mod locate;
mod rewrite;

use std::sync::Arc;

use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::seq::IndexedRandom as _;
use rustls::ClientConfig;
use vetch_identity::TlsError;
use vetch_server::Server;
use vetch_server::connect::{Forward, Forwarded};
use vetch_server::request::Target;
use vetch_server::status::{Result, Status};

use locate::Asked;

pub use locate::Place;

/// What this answers.
pub const KEYS: [&str; 2] = ["pods/proxy", "services/proxy"];

pub struct Proxy {
    tls: Arc<ClientConfig>,
}

impl Proxy {
    pub fn new() -> Result<Proxy, TlsError> {
        Ok(Proxy {
            tls: Arc::new(vetch_identity::proxy_config()?),
        })
    }
}

impl Forward for Proxy {
    fn forward<'a>(
        &'a self,
        server: &'a Server,
        forwarded: Forwarded,
    ) -> BoxFuture<'a, Result<Response>> {
        async move {
            let Forwarded { target, request } = forwarded;
            let place = find(server, &target).await?;
            forward::forward(&self.tls, &place, &target.behind, request).await
        }
        .boxed()
    }
}

async fn find(server: &Server, target: &Target) -> Result<Place> {
    let text = target.name.as_deref().unwrap_or_default();
    let asked = Asked::parse(text).ok_or_else(|| {
        let what = target.resource.singular;
        Status::bad_request(format!("invalid {what} request {text:?}"))
    })?;
    let (namespace, plural) = (target.namespace.as_deref(), target.resource.plural);
    let found = server.find("", plural, namespace, asked.name).await?;
    let found = found.ok_or_else(|| Status::not_found(target.resource, asked.name))?;
    if plural == "pods" {
        return locate::pod(&found.value, &asked);
    }
    let endpoints = server.find("", "endpoints", namespace, asked.name).await?;
    let endpoints = endpoints.as_ref().map(|endpoints| &endpoints.value);
    let places = locate::service(&found.value, endpoints, &asked)?;
    let chosen = places.choose(&mut rand::rng()).copied();
    chosen.ok_or_else(|| locate::no_endpoints(asked.name))
}

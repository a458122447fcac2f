//! pods/proxy, services/proxy and nodes/proxy: the request goes on to a server in a pod or on a node, and its answer
//! comes back.
//!
//! [`locate`] finds the server by the objects alone, [`forward`] has the request carried, [`rewrite`] leads redirects back
//! through here. Links in pages are left as they are.

mod forward;
mod locate;
mod rewrite;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use rand::seq::IndexedRandom as _;
use rustls::ClientConfig;
use serde_json::Value;
use vetch_identity::{Kept, TlsError};
use vetch_server::Server;
use vetch_server::connect::{Forward, Forwarded};
use vetch_server::request::Target;
use vetch_server::status::{Result, Status};

use locate::Asked;

pub use locate::Place;

/// What this answers.
pub const KEYS: [&str; 3] = ["pods/proxy", "services/proxy", "nodes/proxy"];
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub struct Proxy {
    /// For kubelets, which want to know who asks.
    kubelets: Arc<ClientConfig>,
    others: Arc<ClientConfig>,
}

/// A server and whether it is a kubelet.
struct Found {
    place: Place,
    is_kubelet: bool,
}

impl Proxy {
    pub fn new(kubelet_client: Arc<Kept>) -> Result<Proxy, TlsError> {
        Ok(Proxy {
            kubelets: Arc::new(vetch_identity::client_config(kubelet_client)?),
            others: Arc::new(vetch_identity::proxy_config()?),
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
            let Found { place, is_kubelet } = find(server, &target).await?;
            let tls = match is_kubelet {
                true => &self.kubelets,
                false => &self.others,
            };
            forward::forward(tls, &place, &target.behind, request).await
        }
        .boxed()
    }
}

async fn find(server: &Server, target: &Target) -> Result<Found> {
    let text = target.name.as_deref().unwrap_or_default();
    let asked = Asked::parse(text).ok_or_else(|| {
        let what = target.resource.singular;
        Status::bad_request(format!("invalid {what} request {text:?}"))
    })?;
    let (namespace, plural) = (target.namespace.as_deref(), target.resource.plural);
    let found = server.find("", plural, namespace, asked.name).await?;
    let found = found.ok_or_else(|| Status::not_found(target.resource, asked.name))?;
    let place = match plural {
        "nodes" => return on_node(&found.value, &asked).await,
        "pods" => locate::pod(&found.value, &asked)?,
        _ => endpoint(server, namespace.unwrap_or_default(), &found.value, &asked).await?,
    };
    Ok(Found {
        place,
        is_kubelet: false,
    })
}

/// One of the service's endpoints, by chance.
async fn endpoint(
    server: &Server,
    namespace: &str,
    service: &Value,
    asked: &Asked<'_>,
) -> Result<Place> {
    let all = server
        .all("discovery.k8s.io", "endpointslices", namespace)
        .await?;
    let of_service = all
        .iter()
        .map(|slice| &slice.value)
        .filter(|slice| slice["metadata"]["labels"][SERVICE_NAME] == asked.name);
    let slices: Vec<&Value> = of_service.collect();
    let places = locate::service(service, &slices, asked)?;
    let chosen = places.choose(&mut rand::rng());
    let (address, port) = chosen.ok_or_else(|| locate::no_endpoints(asked.name))?;
    asked.place(address, *port)
}

async fn on_node(node: &Value, asked: &Asked<'_>) -> Result<Found> {
    let found = locate::node(node, asked)?;
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((found.host, found.port))
        .await
        .map_err(|error| Status::bad_request(format!("lookup {}: {error}", found.host)))?
        .map(locate::allowed)
        .collect::<Result<_>>()?;
    let [address, ..] = addresses.as_slice() else {
        return Err(Status::bad_request("no addresses for hostname"));
    };
    Ok(Found {
        place: Place {
            https: found.https,
            address: *address,
        },
        is_kubelet: found.is_kubelet,
    })
}

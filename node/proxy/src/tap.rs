//! Who hears what is watched here, so that it is watched once on a node.

use std::fmt;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;

/// Is told of every event as it comes, in their order, between two writes to the
/// maps: it must not keep the caller waiting. Services of other proxies are told
/// of as well.
pub trait Tap: fmt::Debug + Send + Sync {
    fn service(&self, event: &Event<Service>);
    fn slice(&self, event: &Event<EndpointSlice>);
    /// Adds what it counts to `/metrics`, once.
    fn register(&self, registry: &mut Registry);
}

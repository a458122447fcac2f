//! The plugins every write passes: what Kubernetes enables by default, as far as the served kinds go.

mod certificates;
mod eviction;
mod namespace;
mod node_restriction;
mod node_taint;
mod pods;
mod ranges;
mod runtime_class;
mod services;
mod storage;

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde_json::Value;
use vetch_server::admission::{Admission, Attributes, Operation};

pub use ranges::PREFIX as RANGES;

/// What the plugins know about the cluster.
#[derive(Clone, Debug)]
pub struct AdmissionConfig {
    /// Where services' addresses come from, at most one network a family. The first one's first address is
    /// `kubernetes`'.
    pub service_cidrs: Vec<ipnet::IpNet>,
    pub node_port_range: RangeInclusive<u16>,
}

/// All plugins, in the order a write passes them. The server's store must cache [`RANGES`].
pub fn plugins(config: AdmissionConfig) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespace::NamespaceLifecycle),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(pods::ServiceAccount),
        Arc::new(pods::Priority),
        Arc::new(pods::DefaultTolerationSeconds),
        Arc::new(runtime_class::RuntimeClass),
        Arc::new(node_taint::TaintNodesByCondition),
        Arc::new(services::Services::new(config)),
        Arc::new(certificates::Certificates),
        Arc::new(eviction::DisruptionBudgets),
        Arc::new(storage::DefaultStorageClass),
        Arc::new(storage::StorageObjectInUseProtection),
        Arc::new(storage::PersistentVolumeClaimResize),
    ]
}

/// Whether this is done to the core group's resource, or to its subresource if that is not empty.
fn is(attributes: &Attributes<'_>, operation: Operation, plural: &str, subresource: &str) -> bool {
    attributes.operation == operation
        && attributes.resource.group.is_empty()
        && attributes.resource.plural == plural
        && attributes.subresource == subresource
}

/// The text at a JSON pointer; empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The texts of a list at a JSON pointer.
fn texts(object: &Value, pointer: &str) -> Vec<String> {
    let texts = list(object, pointer).iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// The list at a JSON pointer; empty where there is none.
pub(crate) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

//! The status as a whole, and the difference that is sent.

mod images;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use serde_json::{Map, Value, json};
use vetch_runtime::ImageStatus;

use super::capacity::{allocatable, capacity};
use super::conditions::{Health, conditions};
use super::machine::Machine;
use super::pressure::Eviction;
use crate::pods::runtime_class::HANDLERS;
use crate::version;

/// Of Kubernetes' features those that schedulers ask for by name (KEP-5328); in their order.
const DECLARED: [&str; 1] = ["RestartAllContainersOnContainerExits"];

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Fixed {
    pub name: String,
    pub ips: Vec<IpAddr>,
    pub kubelet_port: u16,
    pub max_pods: u32,
    pub machine: Machine,
    /// What is kept of what it has.
    pub eviction: Eviction,
    /// Whether its kernel makes them for pods.
    pub user_namespaces: bool,
}

pub fn build(
    fixed: &Fixed,
    health: &Health<'_>,
    stored_images: &[ImageStatus],
    before: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let reported = before
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let address = |type_: &str, address: String| NodeAddress {
        type_: type_.into(),
        address,
    };
    let internal = fixed.ips.iter();
    let internal = internal.map(|ip| address("InternalIP", ip.to_string()));
    let hostname = address("Hostname", fixed.name.clone());
    NodeStatus {
        addresses: Some(internal.chain([hostname]).collect()),
        allocatable: Some(allocatable(&fixed.machine, fixed.max_pods, &fixed.eviction)),
        capacity: Some(capacity(&fixed.machine, fixed.max_pods)),
        conditions: Some(conditions(health, reported, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: fixed.kubelet_port.into(),
            }),
        }),
        declared_features: Some(DECLARED.map(str::to_owned).into()),
        features: Some(NodeFeatures {
            supplemental_groups_policy: Some(true),
        }),
        images: Some(images::list(stored_images)),
        node_info: Some(node_info(&fixed.machine)),
        runtime_handlers: Some(runtime_handlers(fixed)),
        ..NodeStatus::default()
    }
}

/// Two names of the only one.
fn runtime_handlers(fixed: &Fixed) -> Vec<NodeRuntimeHandler> {
    let handler = |name: &str| NodeRuntimeHandler {
        name: Some(name.to_owned()),
        features: Some(NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(true),
            user_namespaces: Some(fixed.user_namespaces),
        }),
    };
    HANDLERS.map(handler).into()
}

fn node_info(machine: &Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: version::RUNTIME.into(),
        kernel_version: machine.kernel_version.clone(),
        // Kubernetes keeps the field and fills it no more.
        kube_proxy_version: String::new(),
        kubelet_version: version::KUBELET.into(),
        machine_id: machine.machine_id.clone(),
        operating_system: std::env::consts::OS.into(),
        os_image: machine.os_image.clone(),
        swap: (machine.swap_bytes > 0).then(|| NodeSwapStatus {
            capacity: i64::try_from(machine.swap_bytes).ok(),
        }),
        system_uuid: machine.system_uuid.clone(),
    }
}

/// A strategic merge patch from what the server has to what is wanted; `None`
/// when nothing but heartbeats differs and none is due. Conditions of others
/// stay as they are.
pub fn patch(
    before: Option<&NodeStatus>,
    wanted: &NodeStatus,
    heartbeat_due: bool,
) -> Option<Value> {
    let empty = NodeStatus::default();
    let before = before.unwrap_or(&empty);
    let mut fields = Map::new();
    let mut conditions: Vec<&NodeCondition> = wanted.conditions.iter().flatten().collect();
    if !heartbeat_due {
        let reported = before.conditions.as_deref().unwrap_or_default();
        conditions.retain(|new| !reported.iter().any(|old| says_the_same(old, new)));
    }
    if !conditions.is_empty() {
        fields.insert("conditions".into(), json!(conditions));
    }
    // Read back as JSON: fields are compared as the server sees them.
    let (old, new) = (json!(before), json!(wanted));
    for name in [
        "addresses",
        "daemonEndpoints",
        "declaredFeatures",
        "features",
        "images",
        "nodeInfo",
        "runtimeHandlers",
    ] {
        if old[name] != new[name] {
            fields.insert(name.into(), new[name].clone());
        }
    }
    // The merge key of addresses is their type, and those of two families have one type: merged, the old
    // address of the second would stay.
    if let Some(Value::Array(addresses)) = fields.get_mut("addresses") {
        addresses.push(json!({"$patch": "replace"}));
    }
    for name in ["allocatable", "capacity"] {
        fields.extend(map_difference(&old[name], &new[name]).map(|map| (name.into(), map)));
    }
    (!fields.is_empty()).then(|| json!({"status": fields}))
}

fn says_the_same(old: &NodeCondition, new: &NodeCondition) -> bool {
    old.type_ == new.type_
        && old.status == new.status
        && old.reason == new.reason
        && old.message == new.message
}

/// A key that is gone is `null`. Resources of others (device plugins) are named
/// with their domain and stay.
fn map_difference(old: &Value, new: &Value) -> Option<Value> {
    let none = Map::new();
    let (old, new) = (
        old.as_object().unwrap_or(&none),
        new.as_object().unwrap_or(&none),
    );
    let gone = old
        .keys()
        .filter(|key| !new.contains_key(*key) && !key.contains('/'))
        .map(|key| (key.clone(), Value::Null));
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()));
    let difference: Map<String, Value> = gone.chain(changed).collect();
    (!difference.is_empty()).then_some(Value::Object(difference))
}

#[cfg(test)]
mod tests;

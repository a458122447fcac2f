//! A pod with what is computed once for all decisions about it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::affinity::Affinity;
use crate::resources::{Resources, of_pod, scored_of_pod};
use crate::selector::Labels;

/// A port of the node: address, protocol, number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// The same port on all addresses collides with it on any.
    pub fn collides(&self, other: &HostPort) -> bool {
        let all = |port: &HostPort| port.address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (all(self) || all(other) || self.address == other.address)
    }
}

#[derive(Clone, Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Resources,
    /// What it is taken to need when nodes are scored.
    pub scored: Resources,
    pub ports: Vec<HostPort>,
    pub affinity: Affinity,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> PodInfo {
        PodInfo {
            requests: of_pod(&pod),
            scored: scored_of_pod(&pod),
            ports: host_ports(&pod),
            affinity: Affinity::of(&pod),
            pod,
        }
    }

    /// For a new version of the pod: computed anew only if it could come out differently.
    pub fn renewed(&self, pod: Arc<Pod>) -> PodInfo {
        if self.pod.spec == pod.spec && self.pod.metadata.labels == pod.metadata.labels {
            return PodInfo {
                // A resize goes on in the status.
                requests: of_pod(&pod),
                pod,
                ..self.clone()
            };
        }
        PodInfo::new(pod)
    }

    pub fn uid(&self) -> &str {
        uid(&self.pod)
    }

    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn labels(&self) -> Option<&Labels> {
        self.pod.metadata.labels.as_ref()
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub fn priority(&self) -> i32 {
        self.spec().and_then(|spec| spec.priority).unwrap_or(0)
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Where a preemption made, or makes, room for it.
    pub fn nominated_node(&self) -> Option<&str> {
        let status = self.pod.status.as_ref()?;
        given(status.nominated_node_name.as_deref())
    }
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn node_of(pod: &Pod) -> Option<&str> {
    given(pod.spec.as_ref()?.node_name.as_deref())
}

/// It has ended and holds nothing.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                port: port.host_port.filter(|number| *number > 0)?,
                address: given(port.host_ip.as_deref()).unwrap_or("0.0.0.0").into(),
                protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
            })
        })
        .collect()
}

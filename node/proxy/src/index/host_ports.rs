//! Ports of the node that lead to its pods, beside what services have there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::ObjectName;
use crate::{
    model::{Frontend, ServicePort},
    wanted::host_ports,
};

/// Of the names under which pods' sandboxes are served. No namespace is
/// called so.
const NAMESPACE: &str = "hostPort";

/// Methods that change something return whose wanted state may differ then.
#[derive(Debug, Default)]
pub struct HostPorts {
    /// `None` until the network has found out which pods are attached.
    pods: Option<Arc<vetch_network::HostPorts>>,
    node: BTreeSet<IpAddr>,
    /// What services have at addresses that may be the node's, and how many of
    /// them have it.
    taken: BTreeMap<Frontend, u32>,
    /// Services without any are absent.
    by_service: BTreeMap<ObjectName, BTreeSet<Frontend>>,
}

impl HostPorts {
    pub fn has(name: &ObjectName) -> bool {
        name.namespace() == NAMESPACE
    }

    pub fn is_known(&self) -> bool {
        self.pods.is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = ObjectName> {
        let pods = self.pods.iter().flat_map(|pods| pods.keys());
        pods.map(|sandbox| ObjectName::new(NAMESPACE, sandbox))
    }

    pub fn set_pods(&mut self, pods: Arc<vetch_network::HostPorts>) -> Vec<ObjectName> {
        let before = self.pods.replace(pods.clone()).unwrap_or_default();
        let sandboxes: BTreeSet<&String> = before.keys().chain(pods.keys()).collect();
        sandboxes
            .into_iter()
            .filter(|sandbox| before.get(*sandbox) != pods.get(*sandbox))
            .map(|sandbox| ObjectName::new(NAMESPACE, sandbox))
            .collect()
    }

    /// Pods with ports on an address that the node has got or lost.
    pub fn set_node(&mut self, node: &BTreeSet<IpAddr>) -> Vec<ObjectName> {
        if self.node == *node {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.node, node.clone());
        let differs = |ip: &IpAddr| before.contains(ip) != node.contains(ip);
        self.with(|port| port.host_ip.is_some_and(|ip| differs(&ip)))
    }

    /// Pods that ask for a port that the service takes or gives up.
    pub fn set_service(&mut self, name: &ObjectName, ports: &[ServicePort]) -> Vec<ObjectName> {
        let frontends = ports.iter().flat_map(|port| &port.frontends);
        let external = frontends.filter(|(_, exposure)| exposure.external);
        let after: BTreeSet<Frontend> = external.map(|(frontend, _)| *frontend).collect();
        let before = self.by_service.remove(name).unwrap_or_default();
        let changed: Vec<Frontend> = before.symmetric_difference(&after).copied().collect();
        for frontend in &changed {
            if after.contains(frontend) {
                *self.taken.entry(*frontend).or_default() += 1;
                continue;
            }
            let left = self.taken.remove(frontend).unwrap_or_default();
            if left > 1 {
                self.taken.insert(*frontend, left - 1);
            }
        }
        if !after.is_empty() {
            self.by_service.insert(name.clone(), after);
        }
        if changed.is_empty() {
            return Vec::new();
        }
        self.with(|port| {
            let same =
                |other: &Frontend| (other.port, other.protocol) == (port.port, port.protocol);
            changed.iter().any(same)
        })
    }

    /// One that is gone wants nothing.
    pub fn look(&self, name: &ObjectName) -> Vec<ServicePort> {
        let pod = self.pods.as_ref().and_then(|pods| pods.get(name.name()));
        let is_taken = |frontend: &Frontend| self.taken.contains_key(frontend);
        pod.map_or_else(Vec::new, |pod| host_ports(pod, &self.node, is_taken))
    }

    fn with(&self, matches: impl Fn(&vetch_network::HostPort) -> bool) -> Vec<ObjectName> {
        let pods = self.pods.iter().flat_map(|pods| pods.iter());
        pods.filter(|(_, pod)| pod.ports.iter().any(&matches))
            .map(|(sandbox, _)| ObjectName::new(NAMESPACE, sandbox))
            .collect()
    }
}

//! Which nodes can run a pod, and why the others cannot, in Kubernetes' words.

mod declared_features;
mod node_affinity;
mod pod_affinity;
mod topology_spread;
mod volume;

use std::borrow::Cow;
use std::sync::Arc;

use self::node_affinity::named_nodes;
pub use self::node_affinity::node_affinity;
use self::pod_affinity::PodAffinity;
use self::topology_spread::TopologySpread;
use self::volume::VolumeRestrictions;
use crate::affinity::Namespaces;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::resources::PODS;
use crate::taints;
use crate::volumes::{PodClaims, Volumes};

/// The filter that refused: what would help depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    NodeUnschedulable,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    PodTopologySpread,
    InterPodAffinity,
    /// Claims of volumes and devices, whatever the node.
    Claims,
    VolumeRestrictions,
    VolumeBinding,
    NodeDeclaredFeatures,
}

/// Why one node does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub filter: Filter,
    pub reasons: Vec<Cow<'static, str>>,
    /// Pods that go away could change it.
    pub resolvable: bool,
}

impl Refusal {
    fn new(filter: Filter, resolvable: bool, reason: &'static str) -> Refusal {
        Refusal {
            filter,
            reasons: vec![reason.into()],
            resolvable,
        }
    }
}

/// A pod with all that is computed once for all nodes.
pub struct Candidate {
    pub pod: Arc<PodInfo>,
    /// The only nodes its affinity names, if it names any.
    named: Option<Vec<String>>,
    /// What a node has to declare.
    feature: Option<&'static str>,
    spread: TopologySpread,
    affinity: PodAffinity,
    claims: PodClaims,
    restrictions: VolumeRestrictions,
}

impl Candidate {
    pub fn new(
        pod: &Arc<PodInfo>,
        nodes: &[&NodeInfo],
        namespaces: &Namespaces,
        volumes: &Volumes,
    ) -> Candidate {
        // What is wrong with them whatever the node was found out before.
        let claims = PodClaims::of(pod, volumes).unwrap_or_default();
        Candidate {
            restrictions: VolumeRestrictions::new(pod, &claims, nodes),
            claims,
            named: named_nodes(pod),
            feature: declared_features::needed(pod),
            spread: TopologySpread::new(pod, nodes),
            affinity: PodAffinity::new(pod, nodes, namespaces),
            pod: pod.clone(),
        }
    }

    /// The first filter that refuses the node speaks for it.
    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        self.named(node)?;
        self.unschedulable(node)?;
        declared_features::check(self.feature, node)?;
        self.taints(node)?;
        node_affinity(&self.pod, node)?;
        self.ports(node)?;
        self.fit(node)?;
        self.restrictions.check()?;
        self.volumes(node)?;
        self.spread.check(node)?;
        self.affinity.check(node)
    }

    fn named(&self, node: &NodeInfo) -> Result<(), Refusal> {
        const REASON: &str = "node(s) didn't satisfy plugin(s) [NodeAffinity]";
        match &self.named {
            Some(names) if !names.iter().any(|name| name == node.name()) => {
                Err(Refusal::new(Filter::NodeAffinity, false, REASON))
            }
            _ => Ok(()),
        }
    }

    fn unschedulable(&self, node: &NodeInfo) -> Result<(), Refusal> {
        match node.is_cordoned() && !taints::tolerated(&self.pod.pod, &taints::cordon()) {
            true => Err(Refusal::new(
                Filter::NodeUnschedulable,
                false,
                "node(s) were unschedulable",
            )),
            false => Ok(()),
        }
    }

    fn taints(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let mut refused = taints::untolerated(&node.taints, &self.pod.pod, taints::HARD);
        match refused.next() {
            Some(_) => Err(Refusal::new(
                Filter::TaintToleration,
                false,
                "node(s) had untolerated taint(s)",
            )),
            None => Ok(()),
        }
    }

    fn ports(&self, node: &NodeInfo) -> Result<(), Refusal> {
        const REASON: &str = "node(s) didn't have free ports for the requested pod ports";
        if self.pod.ports.is_empty() {
            return Ok(());
        }
        let mut taken = node.pods.values().flat_map(|pod| &pod.ports);
        match taken.any(|taken| self.pod.ports.iter().any(|port| port.collides(taken))) {
            true => Err(Refusal::new(Filter::NodePorts, true, REASON)),
            false => Ok(()),
        }
    }

    fn volumes(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let planned = self.claims.plan(node).map(drop);
        planned.map_err(|reasons| Refusal {
            filter: Filter::VolumeBinding,
            reasons: reasons.into_iter().map(Cow::from).collect(),
            resolvable: false,
        })
    }

    fn fit(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let mut reasons = Vec::new();
        let mut resolvable = true;
        let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if pods >= node.allocatable.get(PODS) {
            reasons.push("Too many pods".into());
        }
        for (name, wanted) in self.pod.requests.iter() {
            let has = node.allocatable.get(name);
            if wanted > 0 && wanted > has - node.requested.get(name) {
                reasons.push(format!("Insufficient {name}").into());
                // What the empty node has not, no preemption can free.
                resolvable &= wanted <= has;
            }
        }
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(Refusal {
                filter: Filter::NodeResourcesFit,
                reasons,
                resolvable,
            }),
        }
    }
}

#[cfg(test)]
mod tests;

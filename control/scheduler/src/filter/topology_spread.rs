//! topologySpreadConstraints with DoNotSchedule.

use std::collections::BTreeMap;

use super::{Filter, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::spread::{Constraint, HARD};

struct Domains {
    constraint: Constraint,
    /// The pod itself will count in its domain.
    counts_itself: bool,
    /// Matching pods by value of the topology key.
    pods: BTreeMap<String, i64>,
    /// The fewest in any of them.
    minimum: i64,
}

pub struct TopologySpread(Vec<Domains>);

impl TopologySpread {
    pub fn new(pod: &PodInfo, nodes: &[&NodeInfo]) -> TopologySpread {
        let constraints = Constraint::of_pod(pod, HARD);
        // A node without one of the keys is no place for any of the constraints.
        let has_keys = |node: &NodeInfo| {
            constraints
                .iter()
                .all(|own| node.label(&own.topology_key).is_some())
        };
        let nodes: Vec<&NodeInfo> = match constraints.is_empty() {
            true => Vec::new(),
            false => nodes
                .iter()
                .copied()
                .filter(|node| has_keys(node))
                .collect(),
        };
        let count = |constraint| Domains::count(constraint, pod, &nodes);
        TopologySpread(constraints.into_iter().map(count).collect())
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        for own in &self.0 {
            let Some(value) = node.label(&own.constraint.topology_key) else {
                return Err(Refusal::new(
                    Filter::PodTopologySpread,
                    false,
                    "node(s) didn't match pod topology spread constraints (missing required label)",
                ));
            };
            let there = own.pods.get(value).copied().unwrap_or(0);
            if there + i64::from(own.counts_itself) - own.minimum > own.constraint.max_skew {
                return Err(Refusal::new(
                    Filter::PodTopologySpread,
                    true,
                    "node(s) didn't match pod topology spread constraints",
                ));
            }
        }
        Ok(())
    }
}

impl Domains {
    fn count(constraint: Constraint, pod: &PodInfo, nodes: &[&NodeInfo]) -> Domains {
        let mut pods: BTreeMap<String, i64> = BTreeMap::new();
        for node in nodes.iter().filter(|node| constraint.includes(pod, node)) {
            if let Some(value) = node.label(&constraint.topology_key) {
                *pods.entry(value.to_owned()).or_default() += constraint.count(pod, node);
            }
        }
        // Domains that are still to come count as empty ones.
        let enough = pods.len() >= constraint.min_domains;
        let minimum = pods.values().min().copied().filter(|_| enough).unwrap_or(0);
        Domains {
            counts_itself: constraint.selects(pod),
            minimum,
            constraint,
            pods,
        }
    }
}

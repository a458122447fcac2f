//! Fewer pods of the same kind on the node and in its zone.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::View;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::spread::{Constraint, HOSTNAME, SOFT};

/// 100 where it is emptiest. Nodes without the labels that the pod's own constraints ask for get 0.
pub fn scores(pod: &PodInfo, feasible: &[&NodeInfo], view: &View<'_>) -> Vec<i64> {
    let has_own = pod.spec().is_some_and(|spec| {
        let own = spec.topology_spread_constraints.as_deref();
        !own.unwrap_or_default().is_empty()
    });
    let constraints = match has_own {
        true => Constraint::of_pod(pod, SOFT),
        false => Constraint::defaults(pod, view.services),
    };
    if constraints.is_empty() {
        return vec![0; feasible.len()];
    }
    // Zones by default are no reason to leave nodes without a zone aside.
    let counts = |node: &NodeInfo| {
        let mut keys = constraints.iter().map(|own| &own.topology_key);
        !has_own || keys.all(|key| node.label(key).is_some())
    };
    let mut sums = vec![0.0; feasible.len()];
    for constraint in &constraints {
        let domains = Domains::count(constraint, pod, feasible, view, &counts);
        for (sum, node) in sums.iter_mut().zip(feasible) {
            *sum += domains.cost(node);
        }
    }
    let costs = sums.iter().zip(feasible).map(|(sum, node)| {
        #[expect(clippy::cast_possible_truncation, reason = "far below 2^63")]
        let cost = sum.round() as i64;
        counts(node).then_some(cost)
    });
    cheapest_first(&costs.collect::<Vec<_>>())
}

struct Domains<'a> {
    constraint: &'a Constraint,
    pods: BTreeMap<&'a str, i64>,
    /// Many small domains say more than few large ones.
    weight: f64,
}

impl<'a> Domains<'a> {
    fn count(
        constraint: &'a Constraint,
        pod: &PodInfo,
        feasible: &[&'a NodeInfo],
        view: &View<'a>,
        counts: &impl Fn(&NodeInfo) -> bool,
    ) -> Domains<'a> {
        let key = constraint.topology_key.as_str();
        let candidates = feasible.iter().filter(|node| counts(node));
        let values: BTreeSet<&str> = candidates
            .clone()
            .filter_map(|node| node.label(key))
            .collect();
        let size = match key {
            // One domain a node, whatever its label says.
            HOSTNAME => candidates.count(),
            _ => values.len(),
        };
        let mut pods: BTreeMap<&str, i64> = BTreeMap::new();
        for node in &view.nodes {
            let Some(value) = node.label(key).filter(|value| values.contains(value)) else {
                continue;
            };
            if counts(node) && (key == HOSTNAME || constraint.includes(pod, node)) {
                *pods.entry(value).or_default() += constraint.count(pod, node);
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of nodes")]
        let weight = (size as f64 + 2.0).ln();
        Domains {
            constraint,
            pods,
            weight,
        }
    }

    fn cost(&self, node: &NodeInfo) -> f64 {
        let Some(value) = node.label(&self.constraint.topology_key) else {
            return 0.0;
        };
        let pods = self.pods.get(value).copied().unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "counts of pods")]
        let cost = (pods as f64).mul_add(self.weight, (self.constraint.max_skew - 1) as f64);
        cost
    }
}

/// The cheapest becomes 100; none stands for a node that does not count.
fn cheapest_first(costs: &[Option<i64>]) -> Vec<i64> {
    let known = || costs.iter().copied().flatten();
    let (lowest, highest) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let score = |cost: &Option<i64>| match cost {
        None => 0,
        Some(_) if highest == 0 => 100,
        Some(cost) => 100 * (highest + lowest - cost) / highest,
    };
    costs.iter().map(score).collect()
}

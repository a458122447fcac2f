//! Which of the nodes that can run a pod should: every score is 0 to 100, weighted as in
//! Kubernetes' default profile.

mod affinity;
mod allocation;
mod images;
mod spread;

use crate::decide::View;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::selector::matches_term;
use crate::taints;

const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;

/// The weighted sums, in the order of the nodes that can run the pod.
pub fn scores(pod: &PodInfo, feasible: &[&NodeInfo], view: &View<'_>) -> Vec<i64> {
    let taints = inverted(feasible.iter().map(|node| soft_taints(pod, node)).collect());
    let node_affinity = normalized(
        feasible
            .iter()
            .map(|node| preferred_nodes(pod, node))
            .collect(),
    );
    let pod_affinity = affinity::scores(pod, feasible, view);
    let spread = spread::scores(pod, feasible, view);
    let images = images::scores(pod, feasible, &view.nodes);
    let sum = |(i, node): (usize, &&NodeInfo)| {
        allocation::least_allocated(pod, node)
            + allocation::balanced(pod, node)
            + images[i]
            + TAINTS * taints[i]
            + NODE_AFFINITY * node_affinity[i]
            + POD_AFFINITY * pod_affinity[i]
            + SPREAD * spread[i]
    };
    feasible.iter().enumerate().map(sum).collect()
}

fn soft_taints(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let count = taints::untolerated(&node.taints, &pod.pod, taints::SOFT).count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn preferred_nodes(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let affinity = pod
        .spec()
        .and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let terms = affinity.and_then(|own| {
        own.preferred_during_scheduling_ignored_during_execution
            .as_deref()
    });
    let matching = terms
        .unwrap_or_default()
        .iter()
        .filter(|term| matches_term(&term.preference, node));
    matching.map(|term| i64::from(term.weight)).sum()
}

/// The highest becomes 100.
fn normalized(values: Vec<i64>) -> Vec<i64> {
    let highest = values.iter().copied().max().unwrap_or(0);
    let share = |value| {
        if highest > 0 {
            value * 100 / highest
        } else {
            0
        }
    };
    values.into_iter().map(share).collect()
}

/// None becomes 100, the highest 0.
fn inverted(values: Vec<i64>) -> Vec<i64> {
    let shares = normalized(values).into_iter();
    shares.map(|value| 100 - value).collect()
}

#[cfg(test)]
mod tests;

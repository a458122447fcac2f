//! The decision about one pod: a node, or why none.

use std::sync::Arc;

use rand::Rng;
use rand::seq::IndexedRandom as _;

use crate::affinity::Namespaces;
use crate::cache::{Nominated, Services};
use crate::filter::{Candidate, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::score::scores;
use crate::volumes::{PodClaims, Volumes};

/// With fewer nodes than this all are looked at, with more a part suffices, from anywhere on.
const ALL: usize = 100;

/// What is known when a decision is made.
#[derive(Clone)]
pub struct View<'a> {
    pub nodes: Vec<&'a NodeInfo>,
    pub namespaces: &'a Namespaces,
    pub services: &'a Services,
    pub nominated: &'a Nominated,
    pub volumes: &'a Volumes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Node(String),
    /// What the pod names does not exist, whatever the node.
    Missing(String),
    /// A refusal for each node; none where there is no node.
    Nowhere(Vec<(String, Refusal)>),
}

/// Equally good nodes are drawn by lot.
pub fn decide(pod: &Arc<PodInfo>, view: &View<'_>, lot: &mut impl Rng) -> Decision {
    let count = view.nodes.len();
    if count == 0 {
        return Decision::Nowhere(Vec::new());
    }
    if let Some(missing) = missing_claim(pod, view) {
        return Decision::Missing(missing);
    }
    let nominated = WithNominated::new(pod, view);
    let candidate = Candidate::new(pod, &view.nodes, view.namespaces, view.volumes);
    let check = |index: usize| {
        let node = view.nodes[index];
        candidate.check(node)?;
        // Both with and without: pods that were made room for may never come.
        match &nominated {
            Some(with) => with.check(index),
            None => Ok(()),
        }
    };

    let position = |name: &str| view.nodes.iter().position(|node| node.name() == name);
    if let Some((node, _)) = view.nominated.get(pod.uid())
        && position(node).is_some_and(|index| check(index).is_ok())
    {
        return Decision::Node(node.clone());
    }
    let (mut feasible, mut refusals) = (Vec::new(), Vec::new());
    let start = match count < ALL {
        true => 0,
        false => lot.random_range(0..count),
    };
    for index in (0..count).map(|offset| (start + offset) % count) {
        let node = view.nodes[index];
        match check(index) {
            Ok(()) => feasible.push(node),
            Err(refusal) => refusals.push((node.name().to_owned(), refusal)),
        }
        if feasible.len() >= enough(count) {
            break;
        }
    }
    match feasible.as_slice() {
        [] => Decision::Nowhere(refusals),
        [only] => Decision::Node(only.name().to_owned()),
        several => {
            let scores = scores(pod, several, view);
            let highest = scores.iter().copied().max().unwrap_or(0);
            let best = several.iter().zip(&scores);
            let best: Vec<_> = best.filter(|(_, score)| **score == highest).collect();
            match best.choose(lot) {
                Some((node, _)) => Decision::Node(node.name().to_owned()),
                None => Decision::Nowhere(refusals),
            }
        }
    }
}

/// How many nodes that can run the pod suffice: half of all, less in large clusters.
fn enough(nodes: usize) -> usize {
    if nodes < ALL {
        return nodes;
    }
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ALL)
}

/// Why no node does, for what the pod claims: volumes, or devices, of which no kind of claim is known here.
fn missing_claim(pod: &PodInfo, view: &View<'_>) -> Option<String> {
    if let Err(missing) = PodClaims::of(pod, view.volumes) {
        return Some(missing);
    }
    let claim = pod.spec()?.resource_claims.as_deref()?.first()?;
    let name = claim.resource_claim_name.as_ref().unwrap_or(&claim.name);
    Some(format!("resourceclaim {name:?} not found"))
}

/// The nodes as they will be when the pods they were cleared for have come.
pub(crate) struct WithNominated {
    nodes: Vec<NodeInfo>,
    /// Which of `nodes` stands for the view's.
    replaced: Vec<Option<usize>>,
    candidate: Candidate,
}

impl WithNominated {
    /// None: nothing that this pod would have to leave room for.
    pub(crate) fn new(pod: &Arc<PodInfo>, view: &View<'_>) -> Option<WithNominated> {
        let mut nodes: Vec<NodeInfo> = Vec::new();
        let mut replaced = vec![None; view.nodes.len()];
        for (node, other) in view.nominated.values() {
            if other.uid() == pod.uid() || other.priority() < pod.priority() {
                continue;
            }
            let Some(index) = view.nodes.iter().position(|own| own.name() == node) else {
                continue;
            };
            let slot = *replaced[index].get_or_insert_with(|| {
                nodes.push(view.nodes[index].clone());
                nodes.len() - 1
            });
            nodes[slot].add(other.clone());
        }
        if nodes.is_empty() {
            return None;
        }
        let all: Vec<&NodeInfo> = view
            .nodes
            .iter()
            .zip(&replaced)
            .map(|(node, slot)| slot.map_or(*node, |slot| &nodes[slot]))
            .collect();
        let candidate = Candidate::new(pod, &all, view.namespaces, view.volumes);
        Some(WithNominated {
            nodes,
            replaced,
            candidate,
        })
    }

    pub(crate) fn check(&self, index: usize) -> Result<(), Refusal> {
        match self.replaced[index] {
            Some(slot) => self.candidate.check(&self.nodes[slot]),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

//! Preferred affinity and anti-affinity, the pod's own and that of the pods already there.

use std::collections::HashMap;

use crate::affinity::Term;
use crate::decide::View;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// What a pod's required affinity weighs for others that would join it; Kubernetes' default.
const REQUIRED: i64 = 1;

/// The lowest sum becomes 0, the highest 100.
pub fn scores(pod: &PodInfo, feasible: &[&NodeInfo], view: &View<'_>) -> Vec<i64> {
    let mut weights = Weights::default();
    let own = &pod.affinity;
    let cares = !own.preferred.is_empty() || !own.preferred_anti.is_empty();
    for node in &view.nodes {
        if cares {
            for other in node.pods.values() {
                weights.add_matching(&own.preferred, 1, node, other, view);
                weights.add_matching(&own.preferred_anti, -1, node, other, view);
            }
        }
        for other in node.affine_pods() {
            let theirs = &other.affinity;
            weights.add_matching(&theirs.preferred, 1, node, pod, view);
            weights.add_matching(&theirs.preferred_anti, -1, node, pod, view);
            for term in &theirs.required {
                if term.selects(&pod.pod, view.namespaces) {
                    weights.add(term, REQUIRED, node);
                }
            }
        }
    }
    let sums: Vec<i64> = feasible.iter().map(|node| weights.of(node)).collect();
    between(&sums)
}

/// By topology key and value.
#[derive(Default)]
struct Weights(HashMap<String, HashMap<String, i64>>);

impl Weights {
    fn add_matching(
        &mut self,
        terms: &[Term],
        sign: i64,
        node: &NodeInfo,
        selected: &PodInfo,
        view: &View<'_>,
    ) {
        for term in terms {
            if term.selects(&selected.pod, view.namespaces) {
                self.add(term, sign * term.weight, node);
            }
        }
    }

    fn add(&mut self, term: &Term, weight: i64, node: &NodeInfo) {
        if let Some(value) = node.label(&term.topology_key) {
            let of_key = self.0.entry(term.topology_key.clone()).or_default();
            *of_key.entry(value.to_owned()).or_default() += weight;
        }
    }

    fn of(&self, node: &NodeInfo) -> i64 {
        let by_key = self.0.iter();
        by_key
            .filter_map(|(key, by_value)| by_value.get(node.label(key)?))
            .sum()
    }
}

fn between(sums: &[i64]) -> Vec<i64> {
    let lowest = sums.iter().copied().min().unwrap_or(0);
    let highest = sums.iter().copied().max().unwrap_or(0);
    let share = |sum: &i64| match highest > lowest {
        true => 100 * (sum - lowest) / (highest - lowest),
        false => 0,
    };
    sums.iter().map(share).collect()
}

//! Why a pod runs nowhere, in Kubernetes' words.
//!
//! Kubernetes 1.36 writes "no new claims to deallocate, " before "preemption:" when it serves
//! ResourceClaims; without them, as here, it does not.

use std::collections::BTreeMap;

use crate::filter::Refusal;

pub const NO_NODES: &str = "no nodes available to schedule pods";

/// `preemption` is what became of making room; None when room is being made.
pub fn refused(refusals: &[(String, Refusal)], preemption: Option<&str>) -> String {
    let reasons = refusals.iter().flat_map(|(_, refusal)| &refusal.reasons);
    sentence(
        refusals.len(),
        &counted(reasons.map(AsRef::as_ref)),
        preemption,
    )
}

/// For all nodes at once.
pub fn missing(nodes: usize, what: &str) -> String {
    let preemption = no_victims(nodes, std::iter::repeat_n(NOT_HELPFUL, nodes));
    sentence(nodes, what, Some(&preemption))
}

pub const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
pub const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Why no node can be cleared for the pod.
pub fn no_victims<'a>(nodes: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    sentence(nodes, &counted(reasons), None)
}

fn sentence(nodes: usize, why: &str, preemption: Option<&str>) -> String {
    let mut text = format!("0/{nodes} nodes are available: {why}.");
    if let Some(preemption) = preemption {
        text.push_str(" preemption: ");
        text.push_str(preemption);
    }
    text
}

fn counted<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    reasons.for_each(|reason| *counts.entry(reason).or_default() += 1);
    let mut parts: Vec<String> = counts
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    // As text, as Kubernetes does: 10 stands before 2.
    parts.sort();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    fn refusal(reasons: &[&'static str]) -> (String, Refusal) {
        let refusal = Refusal {
            filter: Filter::NodeResourcesFit,
            reasons: reasons.iter().map(|reason| (*reason).into()).collect(),
            resolvable: true,
        };
        (String::new(), refusal)
    }

    #[test]
    fn refusals_are_counted_in_words() {
        let refusals = [
            refusal(&["Insufficient cpu"]),
            refusal(&["node(s) had untolerated taint(s)"]),
            refusal(&["Insufficient cpu", "Insufficient memory"]),
        ];
        let preemption = no_victims(3, [NO_VICTIMS, NOT_HELPFUL, NO_VICTIMS].into_iter());
        assert_eq!(
            refused(&refusals, Some(&preemption)),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. \
             preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, \
             2 No preemption victims found for incoming pod."
        );
        assert_eq!(
            refused(&refusals[..1], None),
            "0/1 nodes are available: 1 Insufficient cpu."
        );
    }

    #[test]
    fn what_is_missing_is_missing_on_all() {
        assert_eq!(
            missing(2, "persistentvolumeclaim \"data\" not found"),
            "0/2 nodes are available: persistentvolumeclaim \"data\" not found. \
             preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        );
    }
}

//! nodeSelector and required node affinity.

use k8s_openapi::api::core::v1::NodeSelectorTerm;

use super::{Filter, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::selector::matches_any_term;

pub fn node_affinity(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let selector = pod.spec().and_then(|spec| spec.node_selector.as_ref());
    let labelled = selector.is_none_or(|wanted| {
        wanted
            .iter()
            .all(|(key, value)| node.label(key) == Some(value))
    });
    let required = required_terms(pod).is_none_or(|terms| matches_any_term(terms, node));
    match labelled && required {
        true => Ok(()),
        false => Err(Refusal::new(
            Filter::NodeAffinity,
            false,
            "node(s) didn't match Pod's node affinity/selector",
        )),
    }
}

/// The nodes that the terms name, if each names some: those of DaemonSets do.
pub(super) fn named_nodes(pod: &PodInfo) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for term in required_terms(pod)? {
        let mut of_term: Option<Vec<String>> = None;
        for field in term.match_fields.iter().flatten() {
            if field.key != "metadata.name" || field.operator != "In" {
                continue;
            }
            let values = field.values.as_deref().unwrap_or_default();
            of_term = Some(match of_term {
                Some(before) => before
                    .into_iter()
                    .filter(|name| values.contains(name))
                    .collect(),
                None => values.to_vec(),
            });
        }
        names.extend(of_term?);
    }
    Some(names)
}

fn required_terms(pod: &PodInfo) -> Option<&[NodeSelectorTerm]> {
    let affinity = pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    Some(&required.node_selector_terms)
}

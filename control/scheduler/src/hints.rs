//! What happens in the cluster, and which refused pods it may help.

use std::collections::BTreeSet;

use crate::filter::Filter;
use crate::node_info::NodeChange;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NodeAdded,
    NodeChanged(NodeChange),
    NodeRemoved,
    /// On a node.
    PodAdded,
    /// Other labels, or its deletion began.
    PodRelabelled,
    /// It asks for less, and has given the rest back.
    PodShrunk,
    /// From a node, or ended.
    PodRemoved,
    NamespaceRelabelled,
    /// A claim, a volume or a class.
    VolumesChanged,
}

/// Whether a pod refused by these filters is worth another try. Refused by none, there was no node,
/// or something else went wrong: then anything may help.
pub fn may_help(event: Event, refused_by: &BTreeSet<Filter>) -> bool {
    refused_by.is_empty() || refused_by.iter().any(|filter| helps(event, *filter))
}

fn helps(event: Event, filter: Filter) -> bool {
    use Event::{
        NamespaceRelabelled, NodeAdded, NodeChanged, NodeRemoved, PodAdded, PodRelabelled,
        PodRemoved, PodShrunk, VolumesChanged,
    };
    let between_pods = matches!(event, PodAdded | PodRelabelled | PodRemoved);
    match (event, filter) {
        (VolumesChanged, Filter::Claims | Filter::VolumeBinding) => true,
        (_, Filter::Claims) => false,
        (NodeAdded, _) => true,
        (NodeChanged(change), Filter::NodeUnschedulable | Filter::TaintToleration) => change.taints,
        (NodeChanged(change), Filter::NodeAffinity) => change.labels,
        (NodeChanged(change), Filter::NodeDeclaredFeatures) => change.features,
        (NodeChanged(change), Filter::VolumeBinding) => change.labels,
        (NodeChanged(change), Filter::NodeResourcesFit) => change.allocatable,
        (NodeChanged(change), Filter::PodTopologySpread) => change.labels || change.taints,
        (NodeChanged(change), Filter::InterPodAffinity) => change.labels,
        // A domain that is gone may have been the emptiest.
        (NodeRemoved, Filter::PodTopologySpread) => true,
        (PodRemoved, Filter::NodeResourcesFit | Filter::NodePorts) => true,
        (PodRemoved, Filter::VolumeRestrictions) => true,
        (PodShrunk, Filter::NodeResourcesFit) => true,
        (NamespaceRelabelled, Filter::InterPodAffinity) => true,
        (_, Filter::PodTopologySpread | Filter::InterPodAffinity) => between_pods,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_change_the_answer_helps() {
        let labels = NodeChange {
            labels: true,
            ..NodeChange::default()
        };
        let room = NodeChange {
            allocatable: true,
            ..NodeChange::default()
        };
        let features = NodeChange {
            features: true,
            ..NodeChange::default()
        };
        let table = [
            (Event::PodRemoved, Filter::NodeResourcesFit, true),
            (Event::PodAdded, Filter::NodeResourcesFit, false),
            (Event::PodShrunk, Filter::NodeResourcesFit, true),
            (Event::PodShrunk, Filter::NodePorts, false),
            (Event::PodAdded, Filter::InterPodAffinity, true),
            (Event::PodRelabelled, Filter::PodTopologySpread, true),
            (Event::NodeAdded, Filter::NodeAffinity, true),
            (Event::NodeRemoved, Filter::NodeAffinity, false),
            (Event::NodeRemoved, Filter::PodTopologySpread, true),
            (Event::NodeChanged(labels), Filter::NodeAffinity, true),
            (Event::NodeChanged(labels), Filter::NodeResourcesFit, false),
            (Event::NodeChanged(room), Filter::NodeResourcesFit, true),
            (Event::NodeChanged(room), Filter::TaintToleration, false),
            (
                Event::NodeChanged(labels),
                Filter::NodeDeclaredFeatures,
                false,
            ),
            (
                Event::NodeChanged(features),
                Filter::NodeDeclaredFeatures,
                true,
            ),
            (Event::NamespaceRelabelled, Filter::InterPodAffinity, true),
            (Event::NamespaceRelabelled, Filter::NodePorts, false),
            (Event::NodeAdded, Filter::Claims, false),
            (Event::VolumesChanged, Filter::Claims, true),
            (Event::VolumesChanged, Filter::VolumeBinding, true),
            (Event::VolumesChanged, Filter::NodePorts, false),
            (Event::NodeChanged(labels), Filter::VolumeBinding, true),
            (Event::PodRemoved, Filter::VolumeRestrictions, true),
            (Event::PodAdded, Filter::VolumeRestrictions, false),
        ];
        for (event, filter, wanted) in table {
            let refused_by = BTreeSet::from([filter]);
            assert_eq!(may_help(event, &refused_by), wanted, "{event:?} {filter:?}");
        }
        assert!(may_help(Event::PodAdded, &BTreeSet::new()));
    }
}

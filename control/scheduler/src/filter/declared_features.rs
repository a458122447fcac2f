//! Features that a pod needs and a node has to declare (KEP-5328, beta in 1.36).

use super::{Filter, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

const RESTART_ALL: &str = "RestartAllContainersOnContainerExits";

/// The one feature of a node's that is known here and that the pod needs.
pub fn needed(pod: &PodInfo) -> Option<&'static str> {
    let spec = pod.spec()?;
    let init = spec.init_containers.iter().flatten();
    let mut rules = init
        .chain(&spec.containers)
        .flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules
        .any(|rule| rule.action == "RestartAllContainers")
        .then_some(RESTART_ALL)
}

pub fn check(needed: Option<&'static str>, node: &NodeInfo) -> Result<(), Refusal> {
    let Some(feature) = needed else {
        return Ok(());
    };
    let mut declared = node.declared_features();
    if declared.any(|declared| declared == feature) {
        return Ok(());
    }
    let reason =
        format!("node declared features check failed - unsatisfied requirements: {feature}");
    Err(Refusal {
        filter: Filter::NodeDeclaredFeatures,
        reasons: vec![reason.into()],
        resolvable: false,
    })
}

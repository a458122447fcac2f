//! All containers are taken away, so that the pod begins anew in the sandbox it has (KEP-5532, beta in
//! 1.36): a rule of one that ended wants so. They have no time to end and no hooks, as the kubelet has it.
//!
//! What is to be done is read from the runtime alone: as long as the container whose end began it is there,
//! it goes on, also with another daemon. So that one goes last, and not before its back-off is over.

use std::collections::BTreeSet;

use vetch_runtime::{ContainerId, ContainerState, ContainerStatus};

use super::containers::{crash_back_off, wait};
use super::{Action, KillReason, Observed, Plan};
use crate::pods::{restart, spec};

/// Whether that is what is going on.
pub fn add(observed: &Observed<'_>, plan: &mut Plan) -> bool {
    let triggers = restart::triggers(observed.pod, observed.seen);
    if triggers.is_empty() {
        return false;
    }
    let last: BTreeSet<&ContainerId> = triggers.iter().map(|(_, status)| &status.id).collect();
    let mut left = observed.busy.start.is_some();
    for status in own(observed).filter(|status| !last.contains(&status.id)) {
        left = true;
        match status.state {
            ContainerState::Running => kill(observed, plan, status, &triggers[0].1.name),
            _ => reset(observed, plan, status),
        }
    }
    if left {
        return true;
    }
    for (container, status) in triggers {
        match crash_back_off(observed, container) {
            Some(backing_off) => wait(plan, backing_off),
            None => reset(observed, plan, status),
        }
    }
    true
}

/// In every sandbox; ephemeral ones are left.
fn own<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a ContainerStatus> {
    let containers = observed.seen.containers();
    containers.filter(|status| spec::container(observed.pod, &status.name).is_some())
}

fn kill(observed: &Observed<'_>, plan: &mut Plan, status: &ContainerStatus, by: &str) {
    if observed.busy.kills.contains(&status.id) {
        return;
    }
    let name = &status.name;
    plan.actions.push(Action::Kill {
        id: status.id.clone(),
        container: name.clone(),
        message: format!(
            "Stopping container {name}: container {by} ended, and all are restarted with it"
        ),
        reason: KillReason::RestartAll,
    });
}

/// Its log stays: by it the next one is numbered.
fn reset(observed: &Observed<'_>, plan: &mut Plan, status: &ContainerStatus) {
    let removed = Action::RemoveContainer(status.id.clone());
    if observed.busy.sweeps.contains(&status.id.0) || plan.actions.contains(&removed) {
        return;
    }
    plan.actions.push(Action::Reset {
        id: status.id.clone(),
        container: status.name.clone(),
    });
}

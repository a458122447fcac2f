//! Containers and sandboxes that nobody needs any more.

use std::collections::BTreeSet;

use vetch_runtime::{ContainerState, ContainerStatus};

use super::{Action, Observed, Plan};
use crate::pods::spec;

pub fn add(observed: &Observed<'_>, plan: &mut Plan) {
    let names: BTreeSet<&str> = observed
        .seen
        .containers()
        .map(|c| c.name.as_str())
        .collect();
    for name in names {
        let history = observed.seen.history(name);
        let is_init = spec::init_containers(observed.pod)
            .iter()
            .any(|container| container.name == name && !spec::is_sidecar(container));
        // The one before the last is what lastState and `logs --previous` show.
        let keep = if is_init { 1 } else { 2 };
        for status in history.into_iter().skip(keep) {
            remove(observed, plan, status);
        }
    }
    // One lost sandbox is kept with its containers until the next is lost too.
    for sandbox in observed.seen.sandboxes.iter().skip(2) {
        if !observed.busy.sweeps.contains(&sandbox.id.0) {
            plan.actions.push(Action::RemoveSandbox(sandbox.id.clone()));
        }
    }
}

fn remove(observed: &Observed<'_>, plan: &mut Plan, status: &ContainerStatus) {
    let over = matches!(
        status.state,
        ContainerState::Exited | ContainerState::Created
    );
    if over && !observed.busy.sweeps.contains(&status.id.0) {
        plan.actions
            .push(Action::RemoveContainer(status.id.clone()));
    }
}

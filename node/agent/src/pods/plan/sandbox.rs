//! The sandbox, its addresses and the volumes: what containers stand on.

use std::time::Duration;

use vetch_runtime::{ContainerState, SandboxState};

use super::{Action, Observed, Plan};
use crate::pods::{restart, spec};

/// Between two sandboxes.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether containers can be looked at.
pub fn add(observed: &Observed<'_>, plan: &mut Plan) -> bool {
    let standing = match observed.seen.newest() {
        Some(newest) if newest.state == SandboxState::Ready => {
            let addressed = observed.readiness.addressed || spec::host_network(observed.pod);
            if !addressed {
                attach(observed, plan);
            }
            addressed
        }
        newest => {
            if has_run_to_its_end(observed) {
                plan.ended = true;
                return false;
            }
            let attempt = newest.map_or(0, |newest| newest.spec.attempt + 1);
            // One that is lost as soon as it is made is not made in a busy loop.
            let soonest = newest.and_then(|lost| lost.created_at.saturating_add(PAUSE).ok());
            if !held(observed, plan, soonest) {
                make(observed, plan, attempt, newest.is_some());
            }
            false
        }
    };
    let volumes = volumes(observed, plan);
    standing && volumes
}

fn network_is_there(observed: &Observed<'_>, plan: &mut Plan) -> bool {
    let there = observed.readiness.network || spec::host_network(observed.pod);
    plan.network_missing = !there;
    there
}

fn held(observed: &Observed<'_>, plan: &mut Plan, until: Option<jiff::Timestamp>) -> bool {
    match until.filter(|until| observed.now < *until) {
        Some(until) => {
            plan.wake(until);
            true
        }
        None => false,
    }
}

fn make(observed: &Observed<'_>, plan: &mut Plan, attempt: u32, replaces: bool) {
    let free = network_is_there(observed, plan)
        && !observed.busy.sandbox
        && !held(observed, plan, observed.readiness.sandbox_hold);
    if free {
        plan.actions.push(Action::MakeSandbox { attempt, replaces });
    }
}

fn attach(observed: &Observed<'_>, plan: &mut Plan) {
    let free = network_is_there(observed, plan)
        && !observed.busy.sandbox
        && !held(observed, plan, observed.readiness.sandbox_hold);
    if let Some(sandbox) = observed.seen.sandbox().filter(|_| free) {
        plan.actions.push(Action::Attach(sandbox.id.clone()));
    }
}

fn volumes(observed: &Observed<'_>, plan: &mut Plan) -> bool {
    if observed.readiness.volumes {
        return true;
    }
    if !observed.busy.volumes && !held(observed, plan, observed.readiness.volumes_hold) {
        plan.actions.push(Action::SetUpVolumes);
    }
    false
}

/// There is no sandbox: whether there is anything to make one for.
fn has_run_to_its_end(observed: &Observed<'_>) -> bool {
    let pod = observed.pod;
    let failed_to_initialize = spec::init_containers(pod).iter().any(|container| {
        !spec::is_sidecar(container)
            && last_exit(observed, &container.name)
                .is_some_and(|code| code != 0 && !restart::after_exit(container, pod, code))
    });
    let mut containers = spec::containers(pod).iter();
    let begun = containers.any(|container| last_exit(observed, &container.name).is_some());
    let none_left = spec::containers(pod)
        .iter()
        .all(|container| !observed.wants(container));
    // Nothing of a pod that never restarts is begun a second time.
    let never = spec::restart_policy(pod) == "Never" && begun;
    failed_to_initialize || (begun && none_left) || never
}

/// Of a container that ran and, without a sandbox, runs no more.
fn last_exit(observed: &Observed<'_>, name: &str) -> Option<i32> {
    match observed.seen.latest(name) {
        Some(status) if status.state == ContainerState::Created => None,
        Some(status) => Some(restart::exit_code(status)),
        None => observed.past.get(name).copied(),
    }
}

//! The sandbox, its addresses and the volumes: what containers stand on.

use vetch_runtime::{ContainerState, SandboxState};

use super::{Action, Observed, Plan};
use crate::pods::{restart, spec};

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
            if newest.is_some() && has_run_to_its_end(observed) {
                plan.ended = true;
                return false;
            }
            let attempt = newest.map_or(0, |newest| newest.spec.attempt + 1);
            make(observed, plan, attempt, newest.is_some());
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

/// The sandbox is lost: whether there is anything to make a new one for.
fn has_run_to_its_end(observed: &Observed<'_>) -> bool {
    let pod = observed.pod;
    let latest = |name: &str| observed.seen.latest(name);
    let ran =
        |name: &str| latest(name).is_some_and(|status| status.state != ContainerState::Created);
    let failed_to_initialize = spec::init_containers(pod).iter().any(|container| {
        !spec::is_sidecar(container)
            && latest(&container.name).is_some_and(|status| {
                let code = restart::exit_code(status);
                ran(&container.name)
                    && status.state != ContainerState::Running
                    && code != 0
                    && !restart::after_exit(container, pod, code)
            })
    });
    let begun = spec::containers(pod)
        .iter()
        .any(|container| ran(&container.name));
    let none_left = spec::containers(pod)
        .iter()
        .all(|container| !restart::wanted(container, pod, latest(&container.name)));
    // Nothing of a pod that never restarts is begun a second time.
    let never = spec::restart_policy(pod) == "Never" && begun;
    failed_to_initialize || (begun && none_left) || never
}

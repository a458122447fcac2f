//! Init containers, one after the other; sidecars among them go on running.

use k8s_openapi::api::core::v1::Container;
use vetch_runtime::{ContainerState, ContainerStatus};

use super::containers::{self, Verdict};
use super::{Action, KillReason, Observed, Plan};
use crate::pods::{restart, spec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    Pending,
    Failed,
}

pub fn add(observed: &Observed<'_>, plan: &mut Plan) -> Progress {
    let init = spec::init_containers(observed.pod);
    let begun = spec::containers(observed.pod)
        .iter()
        .any(|container| observed.seen.current(&container.name).is_some());
    // All before the last one that is there have done their part.
    let frontier = init
        .iter()
        .rposition(|container| observed.seen.current(&container.name).is_some());
    let passed = if begun {
        init.len()
    } else {
        frontier.unwrap_or(0)
    };
    for container in &init[..passed] {
        if spec::is_sidecar(container) {
            keep(observed, plan, container);
        }
    }
    for container in &init[passed..] {
        let progress = advance(observed, plan, container);
        if progress != Progress::Done {
            return progress;
        }
    }
    Progress::Done
}

/// Of the container at the frontier, or beyond it.
fn advance(observed: &Observed<'_>, plan: &mut Plan, container: &Container) -> Progress {
    let Some(status) = observed.seen.current(&container.name) else {
        containers::start(observed, plan, container);
        return Progress::Pending;
    };
    if spec::is_sidecar(container) {
        keep(observed, plan, container);
        return if started(observed, container, status) {
            Progress::Done
        } else {
            Progress::Pending
        };
    }
    match status.state {
        ContainerState::Running => Progress::Pending,
        ContainerState::Created => {
            containers::start(observed, plan, container);
            Progress::Pending
        }
        ContainerState::Exited | ContainerState::Unknown => {
            let code = restart::exit_code(status);
            if code == 0 {
                Progress::Done
            } else if restart::after_exit(container, observed.pod, code) {
                containers::start(observed, plan, container);
                Progress::Pending
            } else {
                Progress::Failed
            }
        }
    }
}

fn started(observed: &Observed<'_>, container: &Container, status: &ContainerStatus) -> bool {
    let results = observed.results.get(&status.id).copied();
    let held = observed.busy.start.as_deref() == Some(container.name.as_str());
    status.state == ContainerState::Running
        && !held
        && results.unwrap_or_default().started(container)
}

/// A sidecar runs, or is started again.
fn keep(observed: &Observed<'_>, plan: &mut Plan, container: &Container) {
    let name = &container.name;
    match observed.seen.current(name) {
        Some(status) if status.state == ContainerState::Running => {
            let (message, reason) = match containers::verdict(observed, container, status) {
                Verdict::Keep => return,
                Verdict::Changed => (
                    format!("Init container {name} definition changed"),
                    KillReason::Other,
                ),
                Verdict::Resized => (
                    format!("Container {name} resize requires restart"),
                    KillReason::Resize,
                ),
                Verdict::Liveness => (
                    format!("Init container {name} failed liveness probe"),
                    KillReason::Liveness,
                ),
                Verdict::Startup => (
                    format!("Init container {name} failed startup probe"),
                    KillReason::Startup,
                ),
            };
            if !observed.busy.kills.contains(&status.id) {
                plan.actions.push(Action::Kill {
                    id: status.id.clone(),
                    container: name.clone(),
                    message,
                    reason,
                });
            }
        }
        _ => containers::start(observed, plan, container),
    }
}

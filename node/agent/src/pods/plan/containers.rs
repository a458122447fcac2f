//! The pod's regular containers: started, kept, killed, started again.

use k8s_openapi::api::core::v1::Container;
use vetch_runtime::{ContainerState, ContainerStatus};

use super::{Action, BackingOff, KillReason, Observed, Plan, crash_key};
use crate::pods::status::Waiting;
use crate::pods::text::{go_duration, go_quote, pod_text};
use crate::pods::{image, resize, restart, spec};

pub fn add(observed: &Observed<'_>, plan: &mut Plan) {
    let mut left = false;
    for container in spec::containers(observed.pod) {
        let name = &container.name;
        match observed.seen.current(name) {
            Some(status) if status.state == ContainerState::Running => {
                left = true;
                if !observed.busy.kills.contains(&status.id) {
                    plan.actions.extend(kill(observed, container, status));
                }
            }
            _ => {
                if observed.wants(container) {
                    left = true;
                    start(observed, plan, container);
                }
            }
        }
    }
    plan.ended = !left;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Changed,
    /// What it is allocated now takes another start.
    Resized,
    Liveness,
    Startup,
}

/// On a container that runs.
pub fn verdict(
    observed: &Observed<'_>,
    container: &Container,
    status: &ContainerStatus,
) -> Verdict {
    let results = observed
        .results
        .get(&status.id)
        .copied()
        .unwrap_or_default();
    if container.image.as_deref().unwrap_or_default() != status.image {
        Verdict::Changed
    } else if resize::needs_restart(container, status) {
        Verdict::Resized
    } else if container.liveness_probe.is_some() && results.liveness == Some(false) {
        Verdict::Liveness
    } else if container.startup_probe.is_some() && results.startup == Some(false) {
        Verdict::Startup
    } else {
        Verdict::Keep
    }
}

fn kill(
    observed: &Observed<'_>,
    container: &Container,
    status: &ContainerStatus,
) -> Option<Action> {
    let name = &container.name;
    let (what, reason) = match verdict(observed, container, status) {
        Verdict::Keep => return None,
        Verdict::Changed => ("definition changed", KillReason::Other),
        Verdict::Resized => ("resize requires restart", KillReason::Resize),
        Verdict::Liveness => ("failed liveness probe", KillReason::Liveness),
        Verdict::Startup => ("failed startup probe", KillReason::Startup),
    };
    let again = match reason {
        // Its words say so already.
        KillReason::Resize => false,
        KillReason::Other => true,
        _ => restart::after_exit(container, observed.pod, restart::LOST),
    };
    let rest = if again { ", will be restarted" } else { "" };
    Some(Action::Kill {
        id: status.id.clone(),
        container: name.clone(),
        message: format!("Container {name} {what}{rest}"),
        reason,
    })
}

/// Starts a container that is not running, or says why it waits.
pub fn start(observed: &Observed<'_>, plan: &mut Plan, container: &Container) {
    if observed.busy.start.as_deref() == Some(container.name.as_str()) {
        return;
    }
    if let Some(hold) = observed.holds.get(&container.name) {
        if observed.now < hold.until {
            return wait_for_hold(observed, plan, container, hold);
        }
    } else if let Some(backing_off) = pull_back_off(observed, container) {
        return wait(plan, backing_off);
    }
    if let Some(backing_off) = crash_back_off(observed, container) {
        return wait(plan, backing_off);
    }
    plan.actions.push(Action::Start {
        container: container.name.clone(),
    });
}

pub(super) fn wait(plan: &mut Plan, backing_off: BackingOff) {
    plan.wake(backing_off.until);
    plan.waiting
        .insert(backing_off.container.clone(), backing_off.waiting.clone());
    plan.backing_off.push(backing_off);
}

fn wait_for_hold(
    observed: &Observed<'_>,
    plan: &mut Plan,
    container: &Container,
    hold: &super::Hold,
) {
    let waiting = hold.waiting(observed.now).clone();
    plan.wake(hold.until);
    match &hold.later {
        Some((from, _)) if observed.now < *from => plan.wake(*from),
        Some(_) => plan.backing_off.push(BackingOff {
            container: container.name.clone(),
            waiting: waiting.clone(),
            until: hold.until,
        }),
        None => {}
    }
    plan.waiting.insert(container.name.clone(), waiting);
}

/// Another container's failed pull of the same image counts as well.
fn pull_back_off(observed: &Observed<'_>, container: &Container) -> Option<BackingOff> {
    image::needed(observed.pod, container).find_map(|needed| {
        let image = needed.reference;
        let until = observed.pulls.until_since_update(image, observed.now)?;
        let error = observed.pull_errors.get(image)?;
        Some(BackingOff {
            container: container.name.clone(),
            waiting: image_pull_back_off(image, error),
            until,
        })
    })
}

pub fn image_pull_back_off(image: &str, error: &str) -> Waiting {
    let message = format!(
        "Back-off pulling image {}: ErrImagePull: {error}",
        go_quote(image)
    );
    Waiting::new("ImagePullBackOff", message)
}

pub(super) fn crash_back_off(observed: &Observed<'_>, container: &Container) -> Option<BackingOff> {
    let history = observed.seen.history(&container.name);
    let exited = history
        .iter()
        .find(|status| status.state == ContainerState::Exited)
        .filter(|status| !observed.was_resized(status))?;
    let finished = exited.finished_at?;
    let key = crash_key(container);
    let until = observed.crashes.until(&key, finished, observed.now)?;
    let delay = observed.crashes.delay(&key, finished)?;
    let message = format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(delay),
        container.name,
        pod_text(observed.pod)
    );
    Some(BackingOff {
        container: container.name.clone(),
        waiting: Waiting::new("CrashLoopBackOff", message),
        until,
    })
}

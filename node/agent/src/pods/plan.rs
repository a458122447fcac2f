//! What is to be done for a pod that shall run: a function of what is known of
//! it. No IO, no clock.

mod containers;
mod ephemeral;
mod init;
mod restart_all;
mod sandbox;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use vetch_runtime::{ContainerId, ContainerState, ContainerStatus, SandboxId};

use super::backoff::Backoff;
use super::probe::ProbeResults;
use super::restart;
use super::seen::Seen;
use super::status::Waiting;

pub use containers::image_pull_back_off;

/// All that is known of a pod at one moment.
pub struct Observed<'a> {
    pub pod: &'a Pod,
    pub seen: &'a Seen,
    /// Exit codes of containers that ran before and that the runtime has
    /// forgotten with a restart of the machine.
    pub past: &'a BTreeMap<String, i32>,
    pub results: &'a ProbeResults,
    pub readiness: Readiness,
    /// Crash loops, by [`crash_key`].
    pub crashes: &'a Backoff,
    /// Pulls, by image.
    pub pulls: &'a Backoff,
    /// What the last pull of an image came to.
    pub pull_errors: &'a BTreeMap<String, String>,
    /// Containers that were ended for a resize: started again, however they ended.
    pub resized: &'a BTreeSet<ContainerId>,
    /// Starts that failed, by container.
    pub holds: &'a BTreeMap<String, Hold>,
    pub busy: &'a Busy,
    pub now: Timestamp,
}

impl Observed<'_> {
    /// Whether a container that is not running shall be started.
    fn wants(&self, container: &Container) -> bool {
        let latest = self.seen.latest(&container.name);
        if latest.is_some_and(|status| self.was_resized(status)) {
            return true;
        }
        let past = self.past.get(&container.name).copied();
        restart::wanted(container, self.pod, latest, past)
    }

    fn was_resized(&self, status: &ContainerStatus) -> bool {
        status.state == ContainerState::Exited && self.resized.contains(&status.id)
    }
}

/// How far the ground is laid that containers stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The node can give addresses to pods.
    pub network: bool,
    /// The present sandbox has its addresses.
    pub addressed: bool,
    pub volumes: bool,
    /// Not to be tried again before.
    pub sandbox_hold: Option<Timestamp>,
    pub volumes_hold: Option<Timestamp>,
}

/// Work under way: nothing is begun twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    pub sandbox: bool,
    pub volumes: bool,
    pub start: Option<String>,
    pub kills: BTreeSet<ContainerId>,
    pub sweeps: BTreeSet<String>,
}

/// A container that is not started before `until`, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub until: Timestamp,
    pub waiting: Waiting,
    /// What is said from a later time on.
    pub later: Option<(Timestamp, Waiting)>,
}

impl Hold {
    fn waiting(&self, now: Timestamp) -> &Waiting {
        match &self.later {
            Some((from, later)) if *from <= now => later,
            _ => &self.waiting,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    Liveness,
    Startup,
    Resize,
    /// Another one's end restarts all: at once, without hooks.
    RestartAll,
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stops what is left of earlier sandboxes, makes the next one and
    /// connects it. `replaces` one that was there.
    MakeSandbox {
        attempt: u32,
        replaces: bool,
    },
    /// Gives the present sandbox its addresses.
    Attach(SandboxId),
    SetUpVolumes,
    Start {
        container: String,
    },
    Kill {
        id: ContainerId,
        container: String,
        message: String,
        reason: KillReason,
    },
    RemoveContainer(ContainerId),
    /// Removes one that is to begin anew.
    Reset {
        id: ContainerId,
        container: String,
    },
    RemoveSandbox(SandboxId),
}

/// A container that waits because of what went wrong before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingOff {
    pub container: String,
    pub waiting: Waiting,
    pub until: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub waiting: BTreeMap<String, Waiting>,
    pub backing_off: Vec<BackingOff>,
    /// The pod has run to its end.
    pub ended: bool,
    /// It waits for the node's network.
    pub network_missing: bool,
    /// When to look again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

pub fn plan(observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    sweep::add(observed, &mut plan);
    if !sandbox::add(observed, &mut plan) {
        return plan;
    }
    if restart_all::add(observed, &mut plan) {
        return plan;
    }
    ephemeral::add(observed, &mut plan);
    match init::add(observed, &mut plan) {
        init::Progress::Done => containers::add(observed, &mut plan),
        init::Progress::Pending => {}
        init::Progress::Failed => plan.ended = true,
    }
    if plan.ended {
        // What would be started is not any more.
        plan.actions
            .retain(|action| !matches!(action, Action::Start { .. }));
    }
    plan
}

/// A container's crashes are another's when its image is.
pub fn crash_key(container: &Container) -> String {
    format!(
        "{}_{}",
        container.name,
        container.image.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;

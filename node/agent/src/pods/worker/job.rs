//! Work that runs beside the worker, and what it came to.

use std::collections::HashMap;
use std::net::IpAddr;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use vetch_runtime::{ContainerId, SandboxId};

use super::start::StartFailure;
use crate::pods::plan::Busy;
use crate::pods::volumes::MountedVolumes;
use crate::pods::volumes::token::TokenStore;

/// What a job is about: no two of a kind at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Sandbox,
    Volumes,
    Start(String),
    /// Other resources for what runs.
    Update,
    Kill(ContainerId),
    SweepContainer(ContainerId),
    SweepSandbox(SandboxId),
    /// All containers, then the sandbox and its network.
    End,
    /// What is left of it on disks.
    Clean,
    /// The API object.
    Delete,
}

#[derive(Debug)]
pub enum Outcome {
    Sandbox(Result<(SandboxId, Vec<IpAddr>), String>),
    Attached(Result<Vec<IpAddr>, String>),
    /// `None` when it was stopped before it made anything.
    Volumes(Option<VolumesMade>),
    Started(Result<(), StartFailure>),
    Updated {
        generation: Option<i64>,
        result: Result<(), String>,
    },
    Killed,
    Swept,
    /// In words what went wrong.
    Ended(Result<(), String>),
    Cleaned(Result<(), String>),
    Deleted(Result<(), String>),
}

#[derive(Debug)]
pub struct VolumesMade {
    /// What they were made from.
    pub print: String,
    /// Or which volume is not ready, and why.
    pub mounted: Result<MountedVolumes, Vec<(String, String)>>,
    pub tokens: TokenStore,
}

#[derive(Default)]
pub struct Jobs {
    set: JoinSet<Outcome>,
    running: HashMap<Id, Kind>,
    stop: CancellationToken,
}

impl Jobs {
    pub fn spawn(&mut self, kind: Kind, work: impl Future<Output = Outcome> + Send + 'static) {
        let handle = self.set.spawn(work);
        self.running.insert(handle.id(), kind);
    }

    pub fn is_running(&self, kind: &Kind) -> bool {
        self.running.values().any(|running| running == kind)
    }

    /// The next that ends; `None` for its outcome when it panicked. Waits for
    /// ever when there is none. May be dropped and called again.
    pub async fn next(&mut self) -> (Kind, Option<Outcome>) {
        loop {
            let (id, outcome) = match self.set.join_next_with_id().await {
                Some(Ok((id, outcome))) => (id, Some(outcome)),
                Some(Err(error)) => {
                    tracing::error!("a job of a pod died: {error}");
                    (error.id(), None)
                }
                None => std::future::pending().await,
            };
            if let Some(kind) = self.running.remove(&id) {
                return (kind, outcome);
            }
        }
    }

    /// Tells jobs that would go on making the pod that nobody wants it. They
    /// end at their next step, and must be waited for: what they have made is
    /// there afterwards.
    pub fn stop_building(&self) {
        self.stop.cancel();
    }

    pub fn stopped(&self) -> CancellationToken {
        self.stop.clone()
    }

    pub fn is_building(&self) -> bool {
        self.running
            .values()
            .any(|kind| matches!(kind, Kind::Sandbox | Kind::Volumes | Kind::Start(_)))
    }

    pub fn busy(&self) -> Busy {
        let mut busy = Busy::default();
        for kind in self.running.values() {
            match kind {
                Kind::Sandbox => busy.sandbox = true,
                Kind::Volumes => busy.volumes = true,
                Kind::Start(name) => busy.start = Some(name.clone()),
                Kind::Kill(id) => {
                    busy.kills.insert(id.clone());
                }
                Kind::SweepContainer(id) => {
                    busy.sweeps.insert(id.0.clone());
                }
                Kind::SweepSandbox(id) => {
                    busy.sweeps.insert(id.0.clone());
                }
                Kind::Update | Kind::End | Kind::Clean | Kind::Delete => {}
            }
        }
        busy
    }
}

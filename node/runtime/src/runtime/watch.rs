//! Following one supervisor.

use std::sync::Arc;
use std::time::Duration;

use vetch_shim::protocol::{Reply, Request, STATE_FILE, State};

use super::Runtime;
use crate::error::Chain;
use crate::shim::ShimConnection;
use crate::types::SandboxId;
use crate::{Error, cgroup, record};

impl Runtime {
    /// Takes the supervisor's state into memory and follows its changes. The
    /// sandbox must be in the map. `false` when nobody answers.
    pub(super) async fn follow(&self, id: &SandboxId) -> Result<bool, Error> {
        let Ok(mut connection) = ShimConnection::open(&self.dir(id)).await else {
            return Ok(false);
        };
        let answer = tokio::time::timeout(
            Duration::from_secs(10),
            connection.call(&Request::Subscribe),
        )
        .await;
        let Ok(Ok(Reply::State(state))) = answer else {
            return Ok(false);
        };
        self.take_state(id, &state, true);
        // The watcher must not keep a dropped runtime alive.
        let inner = Arc::downgrade(&self.inner);
        let watched = id.clone();
        let task = tokio::spawn(async move {
            while let Ok(Some(reply)) = connection.receive().await {
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                Runtime { inner }.take_reply(&watched, reply);
            }
            if let Some(inner) = inner.upgrade() {
                Runtime { inner }.supervisor_gone(&watched).await;
            }
        });
        if let Some(sandbox) = self.sandboxes().get_mut(id) {
            sandbox.watcher = Some(task.abort_handle());
        }
        Ok(true)
    }

    fn take_reply(&self, id: &SandboxId, reply: Reply) {
        let Reply::Changed { container, record } = reply else {
            return;
        };
        if let Some(sandbox) = self.sandboxes().get_mut(id) {
            for (id, known) in &mut sandbox.containers {
                if id.0 == container {
                    known.observed = Some(record.clone());
                }
            }
        }
        self.changed(id);
    }

    pub(super) fn take_state(&self, id: &SandboxId, state: &State, supervised: bool) {
        if let Some(sandbox) = self.sandboxes().get_mut(id) {
            sandbox.supervised = supervised;
            sandbox.shim_pid = state.pid.try_into().ok().filter(|_| supervised);
            for (id, container) in &mut sandbox.containers {
                if let Some(observed) = state.containers.get(&id.0) {
                    container.observed = Some(observed.clone());
                }
            }
        }
    }

    /// Its last words are in its state file. What it watched over has no exit
    /// code any more and is killed, if it did not go with it.
    pub(super) async fn supervisor_gone(&self, id: &SandboxId) {
        let path = self.dir(id).join(STATE_FILE);
        let state: State = match record::read(&path) {
            Ok(state) => state.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(sandbox = %id, "{}", Chain(&error));
                State::default()
            }
        };
        if !state.stopped {
            tracing::warn!(sandbox = %id, "supervisor died");
            for cgroup in self.container_cgroups(id) {
                if let Err(error) = cgroup::kill(&cgroup) {
                    tracing::warn!(sandbox = %id, "{}", Chain(&error));
                }
            }
        }
        self.take_state(id, &state, false);
        self.changed(id);
    }

    pub(super) fn container_cgroups(&self, id: &SandboxId) -> Vec<std::path::PathBuf> {
        self.sandboxes()
            .get(id)
            .into_iter()
            .flat_map(|sandbox| sandbox.containers.values())
            .map(|container| container.record.cgroup.clone())
            .collect()
    }

    /// Until `done` holds, looking again at each change; false after `timeout`.
    pub(super) async fn wait_until(
        &self,
        timeout: Duration,
        done: impl Fn(&Runtime) -> bool,
    ) -> bool {
        let mut changes = self.inner.changes.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                if done(self) {
                    return;
                }
                // The sender lives in `self`.
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(timeout, waiting).await.is_ok()
    }
}

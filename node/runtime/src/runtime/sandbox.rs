//! Sandboxes: made, stopped, removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::mount::{UnmountFlags, unmount};
use vetch_shim::protocol::{CONFIG_FILE, NAMESPACE_DIR, Reply, Request, SHM_DIR, ShimConfig};

use super::{Runtime, Sandbox, new_id};
use crate::record::{self, SANDBOX_FILE, SandboxRecord};
use crate::shim::{self, ShimConnection};
use crate::types::*;
use crate::{Error, cgroup};

/// For what SIGKILL should end at once.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl Runtime {
    /// Starts the shim, makes the pod's namespaces. The netns exists when
    /// this returns.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxStatus, Error> {
        let runtime = self.clone();
        self.carry(async move {
            let id = SandboxId(new_id());
            match runtime.make_sandbox(&id, spec).await {
                Ok(status) => Ok(status),
                Err(error) => {
                    if let Err(cleaning) = runtime.clean_sandbox(&id).await {
                        tracing::warn!(sandbox = %id, "cleaning up: {cleaning}");
                    }
                    Err(error)
                }
            }
        })
        .await
    }

    async fn make_sandbox(
        &self,
        id: &SandboxId,
        spec: SandboxSpec,
    ) -> Result<SandboxStatus, Error> {
        let dir = self.dir(id);
        fs::create_dir(&dir).map_err(Error::io("making", &dir))?;
        let sandbox = SandboxRecord {
            spec,
            created_at: Timestamp::now(),
        };
        record::write(&dir.join(SANDBOX_FILE), &sandbox)?;
        let spec = sandbox.spec.clone();
        self.insert(id, sandbox);

        let pod = self.pod_cgroup(&spec);
        let leaf = self.shim_cgroup(id, &spec);
        self.inner.cgroups.make(&leaf)?;
        self.inner.cgroups.apply(&pod, &spec.resources)?;
        fs::create_dir_all(&spec.log_directory)
            .map_err(Error::io("making", &spec.log_directory))?;
        record::write(
            &dir.join(CONFIG_FILE),
            &ShimConfig {
                cgroup: Some(leaf),
                hostname: spec.hostname,
                host_network: spec.host_network,
                host_ipc: spec.host_ipc,
                host_pid: spec.host_pid,
                share_process_namespace: spec.share_process_namespace,
                sysctls: spec.sysctls,
            },
        )?;
        shim::start(&self.inner.config.shim, &dir).await?;
        if !self.follow(id).await? {
            return Err(Error::ShimGone(id.clone()));
        }
        self.sandbox(id)
            .await
            .ok_or_else(|| Error::SandboxNotFound(id.clone()))
    }

    pub(super) fn insert(&self, id: &SandboxId, record: SandboxRecord) {
        self.sandboxes().insert(
            id.clone(),
            Sandbox {
                record,
                supervised: false,
                shim_pid: None,
                containers: Default::default(),
                lock: Default::default(),
                watcher: None,
            },
        );
    }

    /// Kills what still runs in it, releases namespaces. Idempotent.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.clone());
        self.carry(async move {
            let Some(lock) = runtime.lock(&id) else {
                return Ok(());
            };
            let _held = lock.lock().await;
            runtime.stop_held(&id).await
        })
        .await
    }

    fn lock(&self, id: &SandboxId) -> Option<std::sync::Arc<tokio::sync::Mutex<()>>> {
        self.sandboxes().get(id).map(|sandbox| sandbox.lock.clone())
    }

    async fn stop_held(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(status) = self.sandbox(id).await else {
            return Ok(());
        };
        if status.state == SandboxState::Ready {
            let shutdown = async {
                let mut connection = ShimConnection::open(&self.dir(id)).await?;
                connection.call(&Request::Shutdown).await
            };
            match tokio::time::timeout(KILL_TIMEOUT, shutdown).await {
                Ok(Ok(Reply::Done)) => {}
                // Whatever it is at: the cgroups know all its processes.
                outcome => tracing::warn!(sandbox = %id, ?outcome, "supervisor did not shut down"),
            }
        }
        self.kill_leftovers(id, &status.spec).await?;
        release_mounts(&self.dir(id));
        // The watcher sees the end of its connection and reads the last state.
        let gone = |runtime: &Runtime| {
            runtime
                .sandboxes()
                .get(id)
                .is_none_or(|sandbox| !sandbox.supervised)
        };
        if self.wait_until(KILL_TIMEOUT, gone).await {
            Ok(())
        } else {
            Err(Error::Shim {
                sandbox: id.clone(),
                message: "it outlived SIGKILL".into(),
            })
        }
    }

    async fn kill_leftovers(&self, id: &SandboxId, spec: &SandboxSpec) -> Result<(), Error> {
        let mut cgroups = self.container_cgroups(id);
        cgroups.push(self.shim_cgroup(id, spec));
        for path in cgroups {
            // The supervisor leaves by itself right after its answer.
            if cgroup::wait_empty(&path, Duration::from_millis(50)).await {
                continue;
            }
            cgroup::kill(&path)?;
            if !cgroup::wait_empty(&path, KILL_TIMEOUT).await {
                return Err(Error::Cgroup {
                    path,
                    message: "its processes outlive SIGKILL".into(),
                });
            }
        }
        Ok(())
    }

    /// Removes every trace (logs stay). Idempotent.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.clone());
        self.carry(async move {
            let Some(lock) = runtime.lock(&id) else {
                return Ok(());
            };
            let _held = lock.lock().await;
            runtime.clean_sandbox(&id).await
        })
        .await
    }

    /// Also of a sandbox that was only half made.
    pub(super) async fn clean_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        self.stop_held(id).await?;
        let Some(status) = self.sandbox(id).await else {
            return record::remove_tree(&self.dir(id));
        };
        for container in &status.containers {
            self.discard_container(id, &container.id).await?;
        }
        let pod = self.pod_cgroup(&status.spec);
        cgroup::remove(&self.shim_cgroup(id, &status.spec))?;
        cgroup::remove_if_unused(&pod);
        record::remove_tree(&self.dir(id))?;
        let removed = self.sandboxes().remove(id);
        if let Some(watcher) = removed.and_then(|sandbox| sandbox.watcher) {
            watcher.abort();
        }
        let _ = self.inner.events.send(RuntimeEvent {
            pod_uid: status.spec.pod_uid,
            sandbox: id.clone(),
        });
        Ok(())
    }
}

/// What a supervisor that was killed could not unmount.
pub(super) fn release_mounts(dir: &Path) {
    for name in ["net", "ipc", "uts"] {
        let _ = unmount(dir.join(NAMESPACE_DIR).join(name), UnmountFlags::DETACH);
    }
    let _ = unmount(dir.join(SHM_DIR), UnmountFlags::DETACH);
}

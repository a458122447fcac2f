//! Sandboxes: made, stopped, removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::mount::{UnmountFlags, unmount};
use vetch_shim::protocol::{
    CONFIG_FILE, NAMESPACE_DIR, Reply, Request, SHM_DIR, STATE_FILE, ShimConfig, State,
};

use super::{Runtime, Sandbox, new_id};
use crate::error::Chain;
use crate::record::{self, SANDBOX_FILE, SandboxRecord};
use crate::shim::{self, ShimConnection};
use crate::types::*;
use crate::{Error, cgroup, users};

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
                        tracing::warn!(sandbox = %id, "cleaning up: {}", Chain(&cleaning));
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
        if let (Some(_), Some(problem)) = (spec.user_namespace, users::problem()) {
            return Err(Error::UserNamespace(problem));
        }
        let dir = self.dir(id);
        fs::create_dir(&dir).map_err(Error::io("making", &dir))?;
        let sandbox = self.insert_new(id, spec)?;
        record::write(&dir.join(SANDBOX_FILE), &sandbox)?;
        let spec = sandbox.spec;
        let id_map = spec.id_map();

        let pod = self.pod_cgroup(&spec);
        let leaf = self.shim_cgroup(id, &spec);
        self.inner.cgroups.make(&leaf)?;
        // A place that is its client's has its client's limits.
        if spec.cgroup_parent.is_none() {
            self.inner.cgroups.apply(&pod, &spec.resources)?;
        }
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
                sysctls: sysctls(&spec.sysctls, spec.host_network),
                user_namespace: id_map,
            },
        )?;
        shim::start(&self.inner.config.shim, &dir).await?;
        if !self.follow(id).await? {
            return Err(Error::ShimGone(id.clone()));
        }
        if id_map.is_some() {
            self.check_users(id)?;
        }
        self.show(id);
        self.sandbox(id)
            .await
            .ok_or_else(|| Error::SandboxNotFound(id.clone()))
    }

    /// With ids of its own: what is in memory is taken.
    fn insert_new(&self, id: &SandboxId, mut spec: SandboxSpec) -> Result<SandboxRecord, Error> {
        let mut sandboxes = self.sandboxes();
        let taken = sandboxes
            .values()
            .filter_map(|known| known.record.spec.id_map());
        spec.user_namespace = users::decide(&spec, taken)?;
        let record = SandboxRecord {
            spec,
            created_at: Timestamp::now(),
        };
        sandboxes.insert(id.clone(), Sandbox::new(record.clone()));
        Ok(record)
    }

    /// Whether the supervisor has made the user namespace, or reads over it.
    fn check_users(&self, sandbox: &SandboxId) -> Result<(), Error> {
        let state: Option<State> = record::read(&self.dir(sandbox).join(STATE_FILE))?;
        if state.is_some_and(|state| state.maps_users) {
            return Ok(());
        }
        Err(Error::Shim {
            sandbox: sandbox.clone(),
            message: "it is of a version that makes no user namespaces".into(),
        })
    }

    /// It is whole: from now on it is listed.
    pub(super) fn show(&self, id: &SandboxId) {
        if let Some(sandbox) = self.sandboxes().get_mut(id) {
            sandbox.listed = true;
        }
        self.changed(id);
    }

    pub(super) fn insert(&self, id: &SandboxId, record: SandboxRecord) {
        self.sandboxes().insert(id.clone(), Sandbox::new(record));
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

    pub(super) fn lock(&self, id: &SandboxId) -> Option<std::sync::Arc<tokio::sync::Mutex<()>>> {
        self.sandboxes().get(id).map(|sandbox| sandbox.lock.clone())
    }

    async fn stop_held(&self, id: &SandboxId) -> Result<(), Error> {
        let Some(status) = self.sandbox(id).await else {
            return Ok(());
        };
        let mut asked = false;
        if status.state == SandboxState::Ready {
            let shutdown = async {
                let mut connection = ShimConnection::open(&self.dir(id)).await?;
                connection.call(&Request::Shutdown).await
            };
            match tokio::time::timeout(KILL_TIMEOUT, shutdown).await {
                Ok(Ok(Reply::Done)) => asked = true,
                // Whatever it is at: the cgroups know all its processes.
                outcome => tracing::warn!(sandbox = %id, ?outcome, "supervisor did not shut down"),
            }
        }
        // The watcher sees the end of its connection and reads the last state.
        let gone = |runtime: &Runtime| {
            runtime
                .sandboxes()
                .get(id)
                .is_none_or(|sandbox| !sandbox.supervised)
        };
        if asked {
            self.wait_until(KILL_TIMEOUT, gone).await;
        }
        self.kill_leftovers(id, &status.spec).await?;
        release_mounts(&self.dir(id));
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
            // What was killed may still be on its way out.
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
        if status.spec.cgroup_parent.is_none() {
            cgroup::remove_if_unused(&pod);
        }
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

/// As containerd 2 has it, a pod's programs may use low ports and ping without
/// being root.
fn sysctls(wanted: &BTreeMap<String, String>, host_network: bool) -> BTreeMap<String, String> {
    let mut all = wanted.clone();
    if host_network {
        return all;
    }
    for (key, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ] {
        let given = |known: &String| known.replace('/', ".") == key;
        if !all.keys().any(given) {
            all.insert(key.to_owned(), value.to_owned());
        }
    }
    all
}

/// What a supervisor that was killed could not unmount.
pub(super) fn release_mounts(dir: &Path) {
    for name in ["net", "ipc", "uts"] {
        let _ = unmount(dir.join(NAMESPACE_DIR).join(name), UnmountFlags::DETACH);
    }
    let _ = unmount(dir.join(SHM_DIR), UnmountFlags::DETACH);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_sysctls_come_first() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(own).collect()
        };
        let ports = ("net.ipv4.ip_unprivileged_port_start", "0");
        let pings = ("net.ipv4.ping_group_range", "0 2147483647");
        assert_eq!(sysctls(&map(&[]), false), map(&[ports, pings]));
        assert_eq!(sysctls(&map(&[]), true), map(&[]));
        let own = map(&[
            ("net/ipv4/ip_unprivileged_port_start", "1024"),
            ("kernel.shm_rmid_forced", "1"),
        ]);
        let mut want = own.clone();
        want.extend(map(&[pings]));
        assert_eq!(sysctls(&own, false), want);
    }
}

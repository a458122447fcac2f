//! Finding what an earlier daemon left: living supervisors are followed,
//! dead ones reported, half-made things removed.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use vetch_shim::protocol::{CONTAINER_DIR, DEAD_FILE, LOCK_FILE, STATE_FILE, State};

use super::{Container, Runtime, SANDBOX_DIR, WRITABLE_DIR};
use crate::devices::nodes;
use crate::error::Chain;
use crate::record::{self, CONTAINER_FILE, ContainerRecord, SANDBOX_FILE, SandboxRecord};
use crate::types::*;
use crate::{Error, cgroup};

/// A supervisor that holds its lock but does not answer yet is being born.
const BIRTH_TIMEOUT: Duration = Duration::from_secs(5);
/// For what SIGKILL should end at once.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

impl Runtime {
    pub(super) async fn adopt(&self) -> Result<(), Error> {
        for name in names(&self.inner.config.run_dir.join(SANDBOX_DIR))? {
            let id = SandboxId(name);
            match self.adopt_sandbox(&id).await {
                Ok(()) => {}
                // One that cannot be read must not keep the node down.
                Err(error) => {
                    tracing::error!(sandbox = %id, "not adopted: {}", Chain(&error));
                    self.show(&id);
                }
            }
        }
        let runtime = self.clone();
        tokio::task::spawn_blocking(move || runtime.remove_orphans()).await?
    }

    async fn adopt_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        let dir = self.dir(id);
        let Some(sandbox) = record::read::<SandboxRecord>(&dir.join(SANDBOX_FILE))? else {
            super::sandbox::release_mounts(&dir);
            return record::remove_tree(&dir);
        };
        let spec = sandbox.spec.clone();
        self.insert(id, sandbox);
        self.adopt_containers(id, &spec).await?;

        let deadline = tokio::time::Instant::now() + BIRTH_TIMEOUT;
        loop {
            if self.follow(id).await? {
                self.show(id);
                tracing::info!(sandbox = %id, pod = %spec.name, namespace = %spec.namespace, "adopted");
                return Ok(());
            }
            if self.give_up(&dir)? {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                tracing::warn!(sandbox = %id, "its supervisor lives and does not answer");
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Some(state) = record::read::<State>(&dir.join(STATE_FILE))? else {
            // It never was ready, so nobody was told of it.
            tracing::info!(sandbox = %id, "removing a half-made sandbox");
            return self.clean_sandbox(id).await;
        };
        self.take_state(id, &state, false);
        self.show(id);
        for path in self.container_cgroups(id) {
            cgroup::kill(&path)?;
        }
        super::sandbox::release_mounts(&dir);
        Ok(())
    }

    /// Takes the place of a supervisor that is not there, so that none can
    /// come later. `false` when one has it.
    fn give_up(&self, dir: &Path) -> Result<bool, Error> {
        let path = dir.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("opening", &path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let dead = dir.join(DEAD_FILE);
        fs::write(&dead, "").map_err(Error::io("writing", dead))?;
        Ok(true)
    }

    async fn adopt_containers(&self, sandbox: &SandboxId, spec: &SandboxSpec) -> Result<(), Error> {
        let dir = self.dir(sandbox).join(CONTAINER_DIR);
        for name in names(&dir)? {
            let id = ContainerId(name);
            let path = dir.join(&id.0);
            match record::read::<ContainerRecord>(&path.join(CONTAINER_FILE))? {
                Some(record) => {
                    // One of a daemon that could not: it is only kept from more now.
                    let spec = &record.spec;
                    let kept = nodes::find(&spec.devices).and_then(|own| {
                        self.restrict_devices(&record.cgroup, spec.privileged, &own)
                    });
                    if let Err(error) = kept {
                        tracing::warn!(container = %id, "{}", Chain(&error));
                    }
                    if let Some(sandbox) = self.sandboxes().get_mut(sandbox) {
                        let observed = None;
                        sandbox
                            .containers
                            .insert(id, Container { record, observed });
                    }
                }
                None => {
                    let cgroup = self.pod_cgroup(spec).join(&id.0);
                    cgroup::kill(&cgroup)?;
                    cgroup::wait_empty(&cgroup, KILL_TIMEOUT).await;
                    cgroup::remove(&cgroup)?;
                    record::remove_tree(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Writable and kept layers of containers that are no more: removal was
    /// cut short, or the machine started anew. Those of a sandbox that could
    /// not be adopted stay.
    fn remove_orphans(&self) -> Result<(), Error> {
        let mut known = BTreeSet::new();
        let sandboxes = self.inner.config.run_dir.join(SANDBOX_DIR);
        for name in names(&sandboxes)? {
            known.extend(names(&sandboxes.join(name).join(CONTAINER_DIR))?);
        }
        let dir = self.inner.config.root_dir.join(WRITABLE_DIR);
        for name in names(&dir)? {
            if !known.contains(&name) {
                record::remove_tree(&dir.join(name))?;
            }
        }
        Ok(self.images().retain_pins(&known)?)
    }
}

fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("reading", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("reading", dir))?;
        found.extend(entry.file_name().into_string());
    }
    Ok(found)
}

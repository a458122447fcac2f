//! The handle everything else holds, and what it knows in memory.
//!
//! Truth is elsewhere: in the supervisors, and in the run directory
//! (`record.rs`, `vetch_shim::protocol`). Memory is filled from there at open
//! and by each supervisor's stream of changes after.

mod adopt;
mod attach;
mod container;
mod exec;
mod sandbox;
mod update;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::Error;
use crate::apparmor::Profiles;
use crate::cgroup::CgroupTree;
use crate::devices::DevicePolicy;
use crate::error::Chain;
use crate::images::{ImageStore, PullConfig};
use crate::record::{self, ContainerRecord, SandboxRecord};
use crate::status::container_status;
use crate::types::*;
use crate::users;

pub use attach::Attachment;
pub use exec::{ExecProcess, NO_LIMIT, deadline};

const SANDBOX_DIR: &str = "sandboxes";
pub(crate) const WRITABLE_DIR: &str = "containers";

#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    images: ImageStore,
    cgroups: CgroupTree,
    /// Or why there is none.
    devices: Result<DevicePolicy, String>,
    profiles: Profiles,
    sandboxes: Mutex<BTreeMap<SandboxId, Sandbox>>,
    events: broadcast::Sender<RuntimeEvent>,
    /// Counts changes: what waits looks again at each.
    changes: tokio::sync::watch::Sender<u64>,
}

struct Sandbox {
    record: SandboxRecord,
    /// Whether it is told of: not while it is being made.
    listed: bool,
    /// Whether its supervisor answers.
    supervised: bool,
    shim_pid: Option<u32>,
    containers: BTreeMap<ContainerId, Container>,
    /// One operation at a time.
    lock: Arc<tokio::sync::Mutex<()>>,
    watcher: Option<tokio::task::AbortHandle>,
}

impl Sandbox {
    fn new(record: SandboxRecord) -> Sandbox {
        Sandbox {
            record,
            listed: false,
            supervised: false,
            shim_pid: None,
            containers: BTreeMap::new(),
            lock: Arc::default(),
            watcher: None,
        }
    }
}

struct Container {
    record: ContainerRecord,
    observed: Option<vetch_shim::protocol::ContainerRecord>,
}

impl Sandbox {
    fn container_status(&self, id: &ContainerId, container: &Container) -> ContainerStatus {
        let observed = container.observed.as_ref();
        container_status(id, &container.record, observed, self.supervised)
    }
}

impl Runtime {
    /// Adopts living shims; cleans what was half made.
    pub async fn open(config: RuntimeConfig) -> Result<Runtime, Error> {
        for dir in [
            config.run_dir.join(SANDBOX_DIR),
            config.root_dir.join(WRITABLE_DIR),
        ] {
            record::private_dir(&dir).map_err(Error::io("making", dir))?;
        }
        let images = ImageStore::open_with(
            &config.root_dir,
            PullConfig {
                netns: config.pull_netns.clone(),
                insecure_registries: config.insecure_registries.clone(),
                hosts_dir: config.registry_hosts_dir.clone(),
                ..PullConfig::default()
            },
        )?;
        let cgroups = CgroupTree::open(&config.cgroup_root)?;
        let devices = DevicePolicy::load(&config.cgroup_root).map_err(|error| {
            let problem = Chain(&error).to_string();
            tracing::warn!(
                cgroup = %config.cgroup_root.display(),
                "no device cgroup: containers are kept from devices by the flags of their mounts \
                 alone: {problem}"
            );
            problem
        });
        let runtime = Runtime {
            inner: Arc::new(Inner {
                cgroups,
                devices,
                profiles: Profiles::new(config.root_dir.join("apparmor")),
                images,
                config,
                sandboxes: Mutex::default(),
                events: broadcast::channel(1024).0,
                changes: tokio::sync::watch::Sender::new(0),
            }),
        };
        runtime.adopt().await?;
        Ok(runtime)
    }

    pub fn images(&self) -> &ImageStore {
        &self.inner.images
    }

    /// Where images and what containers write are.
    pub fn root_dir(&self) -> &Path {
        &self.inner.config.root_dir
    }

    /// From memory, cheap.
    pub async fn list(&self) -> Vec<SandboxStatus> {
        self.sandboxes()
            .iter()
            .filter(|(_, sandbox)| sandbox.listed)
            .map(|(id, sandbox)| self.status(id, sandbox))
            .collect()
    }

    /// Each sandbox's network namespace, none in the node's: for who keeps the pods' links.
    pub async fn netns_by_sandbox(&self) -> HashMap<String, Option<PathBuf>> {
        let sandboxes = self.list().await.into_iter();
        sandboxes
            .map(|sandbox| (sandbox.id.0, sandbox.netns))
            .collect()
    }

    pub async fn sandbox(&self, id: &SandboxId) -> Option<SandboxStatus> {
        self.sandboxes()
            .get(id)
            .map(|sandbox| self.status(id, sandbox))
    }

    /// What was asked for, and what became of it.
    pub fn container(
        &self,
        id: &ContainerId,
    ) -> Option<(SandboxId, ContainerSpec, ContainerStatus)> {
        self.look_at(id, |sandbox_id, sandbox, container| {
            let spec = container.record.spec.clone();
            (
                sandbox_id.clone(),
                spec,
                sandbox.container_status(id, container),
            )
        })
    }

    /// The signal that asks a container to end.
    pub fn stop_signal(&self, id: &ContainerId) -> Option<i32> {
        self.look_at(id, |_, _, container| container.record.stop_signal)
    }

    pub fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    /// Words for a node condition: cgroup controllers that are missing here.
    pub fn missing_controllers(&self) -> Vec<String> {
        self.inner.cgroups.missing().to_vec()
    }

    /// Words for a node condition: why containers have no device cgroup here.
    pub fn device_problem(&self) -> Option<&str> {
        self.inner.devices.as_ref().err().map(String::as_str)
    }

    /// Words for who asks for a profile: why none is enforced here.
    pub fn apparmor_problem(&self) -> Option<String> {
        self.inner.profiles.problem()
    }

    /// Words for who asks for one: why sandboxes have no user namespace here.
    pub fn user_namespace_problem(&self) -> Option<String> {
        users::problem()
    }

    /// No panic leaves the map half changed, so a poisoned lock is as good.
    fn sandboxes(&self) -> MutexGuard<'_, BTreeMap<SandboxId, Sandbox>> {
        self.inner
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, id: &SandboxId, sandbox: &Sandbox) -> SandboxStatus {
        SandboxStatus {
            id: id.clone(),
            spec: sandbox.record.spec.clone(),
            state: if sandbox.supervised {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            created_at: sandbox.record.created_at,
            netns: self.netns(id, sandbox),
            shim_pid: sandbox.shim_pid,
            containers: sandbox
                .containers
                .iter()
                .map(|(id, container)| sandbox.container_status(id, container))
                .collect(),
        }
    }

    /// The supervisor's bind mount where we see it; a daemon that came back
    /// in another mount namespace goes through the supervisor's /proc entry.
    fn netns(&self, id: &SandboxId, sandbox: &Sandbox) -> Option<PathBuf> {
        if sandbox.record.spec.host_network {
            return None;
        }
        let bound = self.dir(id).join("ns/net");
        match sandbox.shim_pid {
            Some(pid) if sandbox.supervised && !is_namespace(&bound) => {
                Some(format!("/proc/{pid}/ns/net").into())
            }
            _ => Some(bound),
        }
    }

    fn dir(&self, id: &SandboxId) -> PathBuf {
        self.inner.config.run_dir.join(SANDBOX_DIR).join(&id.0)
    }

    fn container_dir(&self, sandbox: &SandboxId, id: &ContainerId) -> PathBuf {
        self.dir(sandbox)
            .join(vetch_shim::protocol::CONTAINER_DIR)
            .join(&id.0)
    }

    pub(crate) fn writable_dir(&self, id: &ContainerId) -> PathBuf {
        self.inner.config.root_dir.join(WRITABLE_DIR).join(&id.0)
    }

    pub(crate) fn pod_cgroup(&self, spec: &SandboxSpec) -> PathBuf {
        match &spec.cgroup_parent {
            Some(parent) => self.inner.cgroups.below(parent),
            None => self.inner.cgroups.pod(spec.qos, &spec.pod_uid),
        }
    }

    fn shim_cgroup(&self, id: &SandboxId, spec: &SandboxSpec) -> PathBuf {
        self.pod_cgroup(spec).join(format!("shim-{id}"))
    }

    /// Tells everybody that something of this sandbox is different now.
    fn changed(&self, id: &SandboxId) {
        let pod_uid = self
            .sandboxes()
            .get(id)
            .map(|sandbox| sandbox.record.spec.pod_uid.clone());
        self.inner.changes.send_modify(|count| *count += 1);
        if let Some(pod_uid) = pod_uid {
            // Nobody may be listening.
            let _ = self.inner.events.send(RuntimeEvent {
                pod_uid,
                sandbox: id.clone(),
            });
        }
    }

    pub(crate) fn cgroups(&self) -> &CgroupTree {
        &self.inner.cgroups
    }

    pub(crate) fn container_cgroup(&self, id: &ContainerId) -> Option<PathBuf> {
        self.look_at(id, |_, _, container| container.record.cgroup.clone())
    }

    fn find_container(&self, id: &ContainerId) -> Option<(SandboxId, ContainerStatus)> {
        self.look_at(id, |sandbox_id, sandbox, container| {
            (sandbox_id.clone(), sandbox.container_status(id, container))
        })
    }

    /// At one container, with everything held: only what `look` makes is copied.
    fn look_at<T>(
        &self,
        id: &ContainerId,
        look: impl FnOnce(&SandboxId, &Sandbox, &Container) -> T,
    ) -> Option<T> {
        let sandboxes = self.sandboxes();
        let (sandbox_id, sandbox, container) =
            sandboxes.iter().find_map(|(sandbox_id, sandbox)| {
                Some((sandbox_id, sandbox, sandbox.containers.get(id)?))
            })?;
        Some(look(sandbox_id, sandbox, container))
    }

    /// Work that is carried through even if who asked for it goes away.
    async fn carry<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        tokio::spawn(work).await?
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("run_dir", &self.inner.config.run_dir)
            .finish_non_exhaustive()
    }
}

fn is_namespace(path: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == NSFS_MAGIC)
}

/// 64 hex digits, as CRI's ids.
fn new_id() -> String {
    format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    )
}

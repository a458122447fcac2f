//! The numbers, from the runtime, /proc and the disk.

use jiff::Timestamp;
use vetch_runtime::{
    ContainerStatus, LinkUsage, Rates, Runtime, SandboxStatus, Usage, disk_usage, link_usage,
};

use super::StatsError;
use super::disk::{FileSystem, Files, volumes};
use crate::node::meminfo::Meminfo;
use crate::node::pressure::{self, Room};
use crate::node::{boot, capacity};
use crate::server::running;
use crate::server::settings::Settings;

/// What a cgroup uses, and how many nanoseconds of processor time a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    pub usage: Usage,
    pub nano_cores: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub node: NodeSample,
    pub pods: Vec<PodSample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeSample {
    pub name: String,
    pub booted: Timestamp,
    pub load: Load,
    /// Of all pods together; none before the first.
    pub pods: Option<Load>,
    /// Of the machine.
    pub meminfo: Meminfo,
    /// Bytes of memory that the node's processes may have together.
    pub memory: u64,
    pub more: Option<NodeMore>,
}

/// Beside processors and memory.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMore {
    /// Without those to pods.
    pub links: Vec<LinkUsage>,
    pub disk: FileSystem,
    pub images: Files,
    pub written: Files,
    pub threads: Room,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodSample {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub started: Timestamp,
    pub load: Load,
    pub containers: Vec<ContainerSample>,
    pub more: Option<PodMore>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodMore {
    pub links: Vec<LinkUsage>,
    pub volumes: Vec<(String, Files)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerSample {
    pub name: String,
    pub started: Timestamp,
    pub load: Load,
    pub more: Option<ContainerMore>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerMore {
    pub written: Files,
    pub logs: Files,
}

/// Who asks, and what for.
pub struct Sampler<'a> {
    pub runtime: &'a Runtime,
    pub settings: &'a Settings,
    pub rates: &'a Rates,
    /// More than processors and memory; counts files, which takes its time.
    pub all: bool,
}

const NODE: &str = "node";
const PODS: &str = "pods";

impl Sampler<'_> {
    /// Of what runs; what goes meanwhile is left out.
    pub async fn take(&self) -> Result<Sample, StatsError> {
        let running = running::pods(self.runtime.list().await);
        let mut pods = Vec::new();
        for sandbox in &running {
            match self.pod(sandbox).await {
                Ok(pod) => pods.push(pod),
                Err(error) => tracing::debug!(%error, pod = sandbox.spec.name, "not measured"),
            }
        }
        let node = self.node().await?;
        self.rates.retain(|id| {
            let of = |sandbox: &SandboxStatus| {
                sandbox.id.0 == id || sandbox.containers.iter().any(|of| of.id.0 == id)
            };
            id == NODE || id == PODS || running.iter().any(of)
        });
        Ok(Sample { node, pods })
    }

    async fn node(&self) -> Result<NodeSample, StatsError> {
        let settings = self.settings;
        let pods = self.runtime.pods_usage().ok();
        Ok(NodeSample {
            name: settings.node_name.clone(),
            booted: boot::time()?,
            load: self.load(NODE, self.runtime.root_usage()?),
            pods: pods.map(|usage| self.load(PODS, usage)),
            meminfo: Meminfo::read()?,
            memory: capacity::memory(&settings.machine),
            more: match self.all {
                true => Some(self.node_more().await?),
                false => None,
            },
        })
    }

    async fn node_more(&self) -> Result<NodeMore, StatsError> {
        let settings = self.settings;
        let mut links = link_usage(std::process::id())?;
        links.retain(|link| !vetch_network::is_pod_link(&link.name));
        let (images, written) = self.runtime.disk_usage().await?;
        let disk = FileSystem::of(&settings.root_dir)?;
        let on = FileSystem::of(self.runtime.root_dir())?;
        let observed =
            pressure::observe(&settings.machine, &settings.root_dir, &settings.cgroup_root)?;
        Ok(NodeMore {
            links,
            disk,
            images: Files { used: images, on },
            written: Files { used: written, on },
            threads: observed.pids,
        })
    }

    async fn pod(&self, sandbox: &SandboxStatus) -> Result<PodSample, StatsError> {
        let found = self.runtime.sandbox_usage(&sandbox.id).await?;
        let mut containers = Vec::new();
        for container in running::containers(sandbox) {
            match self.container(sandbox, container).await {
                Ok(container) => containers.push(container),
                Err(error) => tracing::debug!(%error, id = %container.id, "not measured"),
            }
        }
        let spec = &sandbox.spec;
        Ok(PodSample {
            name: spec.name.clone(),
            namespace: spec.namespace.clone(),
            uid: spec.pod_uid.clone(),
            started: sandbox.created_at,
            load: self.load(&sandbox.id.0, found.usage),
            containers,
            more: match self.all {
                true => Some(PodMore {
                    links: found.links,
                    volumes: self.volumes(&spec.pod_uid).await?,
                }),
                false => None,
            },
        })
    }

    async fn volumes(&self, uid: &str) -> Result<Vec<(String, Files)>, StatsError> {
        let dir = self.settings.root_dir.join("pods").join(uid);
        tokio::task::spawn_blocking(move || {
            let all = volumes(&dir)?.into_iter();
            all.map(|(name, path)| Ok((name, Files::below(&path)?)))
                .collect()
        })
        .await?
    }

    async fn container(
        &self,
        sandbox: &SandboxStatus,
        container: &ContainerStatus,
    ) -> Result<ContainerSample, StatsError> {
        let (usage, more) = match self.all {
            true => {
                let found = self.runtime.container_usage(&container.id).await?;
                let written = Files {
                    used: found.writable,
                    on: FileSystem::of(self.runtime.root_dir())?,
                };
                let logs = self.logs(sandbox, container).await?;
                (found.usage, Some(ContainerMore { written, logs }))
            }
            false => (self.runtime.container_cgroup_usage(&container.id)?, None),
        };
        Ok(ContainerSample {
            name: container.name.clone(),
            started: container.started_at.unwrap_or(container.created_at),
            load: self.load(&container.id.0, usage),
            more,
        })
    }

    /// Of all its runs, which have a directory together; none before the first line.
    async fn logs(
        &self,
        sandbox: &SandboxStatus,
        container: &ContainerStatus,
    ) -> Result<Files, StatsError> {
        let log = sandbox.spec.log_directory.join(&container.log_path);
        let dir = log.parent().unwrap_or(&log).to_owned();
        let on = FileSystem::of(&self.settings.pod_log_dir)?;
        let used = tokio::task::spawn_blocking(move || disk_usage(&dir)).await??;
        Ok(Files { used, on })
    }

    fn load(&self, id: &str, usage: Usage) -> Load {
        let nano_cores = self.rates.of(id, usage.at, usage.cpu.total);
        Load { usage, nano_cores }
    }
}

//! What sandboxes and containers use now, as the kernel counts it: by cgroup, by link, by file.

mod cgroup;
mod disk;
mod links;
mod processes;
mod rate;

use jiff::Timestamp;

use crate::Error;
use crate::runtime::{Runtime, WRITABLE_DIR};
use crate::types::*;

pub use cgroup::{CpuUsage, IoUsage, MemoryUsage, Pressure, Stall, Throttling};
pub use disk::{DiskUsage, usage as disk_usage};
pub use links::{Counters, LinkUsage, usage as link_usage};
pub use processes::ProcessUsage;
pub use rate::Rates;

/// Of a cgroup with all below it; none of what no controller counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    pub at: Timestamp,
    pub cpu: CpuUsage,
    pub memory: Option<MemoryUsage>,
    pub io: Option<IoUsage>,
    /// Processes and threads, and how many there may be.
    pub pids: Option<u64>,
    pub pids_limit: Option<u64>,
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SandboxUsage {
    pub usage: Usage,
    /// Of a sandbox with a network namespace of its own, without loopback.
    pub links: Vec<LinkUsage>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerUsage {
    pub usage: Usage,
    /// What it has written into its root file system.
    pub writable: DiskUsage,
}

impl Runtime {
    pub async fn sandbox_usage(&self, id: &SandboxId) -> Result<SandboxUsage, Error> {
        let status = self
            .sandbox(id)
            .await
            .ok_or_else(|| Error::SandboxNotFound(id.clone()))?;
        let usage = cgroup::usage(&self.pod_cgroup(&status.spec))?;
        // The supervisor is in the sandbox's network namespace.
        let pid = status.shim_pid.filter(|_| !status.spec.host_network);
        let links = match pid {
            Some(pid) => links::usage(pid)?,
            None => Vec::new(),
        };
        Ok(SandboxUsage { usage, links })
    }

    /// Of all that is below the cgroup root: the node, where it is the node's.
    pub fn root_usage(&self) -> Result<Usage, Error> {
        cgroup::usage(self.cgroups().root())
    }

    /// Of all pods together; an error before there was one.
    pub fn pods_usage(&self) -> Result<Usage, Error> {
        cgroup::usage(&self.cgroups().pods())
    }

    /// Without its files, so that it costs nothing to ask often.
    pub fn container_cgroup_usage(&self, id: &ContainerId) -> Result<Usage, Error> {
        let cgroup = self
            .container_cgroup(id)
            .ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        cgroup::usage(&cgroup)
    }

    /// Counts files: for a container that wrote many it takes its time.
    pub async fn container_usage(&self, id: &ContainerId) -> Result<ContainerUsage, Error> {
        let cgroup = self
            .container_cgroup(id)
            .ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        let upper = self.writable_dir(id).join("upper");
        tokio::task::spawn_blocking(move || {
            Ok(ContainerUsage {
                usage: cgroup::usage(&cgroup)?,
                writable: disk::usage(&upper)?,
            })
        })
        .await?
    }

    /// Looks at every process of it.
    pub async fn process_usage(&self, id: &ContainerId) -> Result<ProcessUsage, Error> {
        let cgroup = self
            .container_cgroup(id)
            .ok_or_else(|| Error::ContainerNotFound(id.clone()))?;
        tokio::task::spawn_blocking(move || processes::usage(&cgroup)).await?
    }

    /// What images take, unpacked, and what containers wrote.
    pub async fn disk_usage(&self) -> Result<(DiskUsage, DiskUsage), Error> {
        let images = self.images().clone();
        let written = self.root_dir().join(WRITABLE_DIR);
        tokio::task::spawn_blocking(move || Ok((images.usage()?, disk::usage(&written)?))).await?
    }
}

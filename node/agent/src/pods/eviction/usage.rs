//! What pods use, from the runtime and the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use vetch_runtime::{
    ContainerState, ContainerStatus, DiskUsage, SandboxState, SandboxStatus, disk_usage,
};

use super::Used;
use crate::pods::context::Context;
use crate::pods::spec;
use crate::pods::text::chain;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodUsage {
    /// Bytes of its working set; 0 where no controller counts.
    pub memory: u64,
    /// Processes and threads, likewise.
    pub pids: u64,
    pub containers: Vec<ContainerUsage>,
    /// By name; those on the node's disk, and every emptyDir.
    pub volumes: BTreeMap<String, DiskUsage>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerUsage {
    pub name: String,
    pub memory: u64,
    /// Into its root file system.
    pub written: DiskUsage,
    /// Of all its runs.
    pub logs: DiskUsage,
}

impl ContainerUsage {
    pub fn disk(&self) -> DiskUsage {
        plus(self.written, self.logs)
    }
}

impl PodUsage {
    /// Of the node's disk.
    pub fn disk(&self, pod: &Pod) -> DiskUsage {
        let own = self.containers.iter().map(ContainerUsage::disk);
        let volumes = spec::spec(pod).volumes.iter().flatten();
        let local = volumes.filter(|volume| is_local(volume));
        let local = local.filter_map(|volume| self.volumes.get(&volume.name).copied());
        own.chain(local).fold(DiskUsage::default(), plus)
    }
}

fn plus(one: DiskUsage, other: DiskUsage) -> DiskUsage {
    DiskUsage {
        bytes: one.bytes + other.bytes,
        inodes: one.inodes + other.inodes,
    }
}

/// On the node's disk: what the kubelet counts as ephemeral storage.
fn is_local(volume: &Volume) -> bool {
    let on_disk = volume.empty_dir.as_ref().is_some_and(|dir| {
        let medium = dir.medium.as_deref();
        medium.is_none_or(str::is_empty)
    });
    on_disk || volume.config_map.is_some()
}

/// By uid; what ends meanwhile is left out. `files` are counted where they are asked for: that takes its
/// time.
pub async fn of(context: &Arc<Context>, pods: &[Arc<Pod>], files: bool) -> Used {
    let mut all = Used::new();
    if pods.is_empty() {
        return all;
    }
    let mut sandboxes = context.runtime.list().await;
    sandboxes.retain(|sandbox| sandbox.state == SandboxState::Ready);
    for pod in pods {
        let own = sandboxes
            .iter()
            .filter(|sandbox| sandbox.spec.pod_uid == spec::uid(pod));
        let Some(sandbox) = own.max_by_key(|sandbox| sandbox.spec.attempt) else {
            continue;
        };
        match of_pod(context, pod, sandbox, files).await {
            Ok(used) => {
                all.insert(spec::uid(pod).to_owned(), used);
            }
            Err(words) => tracing::debug!(pod = spec::name(pod), "not measured: {words}"),
        }
    }
    all
}

async fn of_pod(
    context: &Context,
    pod: &Arc<Pod>,
    sandbox: &SandboxStatus,
    files: bool,
) -> Result<PodUsage, String> {
    let found = context.runtime.sandbox_usage(&sandbox.id).await;
    let found = found.map_err(|error| chain(&error))?.usage;
    let mut used = PodUsage {
        memory: found.memory.map_or(0, |memory| memory.working_set),
        pids: found.pids.unwrap_or(0),
        ..PodUsage::default()
    };
    let running = |own: &&ContainerStatus| own.state == ContainerState::Running;
    for container in sandbox.containers.iter().filter(running) {
        match of_container(context, sandbox, container, files).await {
            Ok(container) => used.containers.push(container),
            Err(words) => tracing::debug!(id = %container.id, "not measured: {words}"),
        }
    }
    if files {
        used.volumes = volumes(context, pod).await?;
    }
    Ok(used)
}

async fn of_container(
    context: &Context,
    sandbox: &SandboxStatus,
    container: &ContainerStatus,
    files: bool,
) -> Result<ContainerUsage, String> {
    let runtime = &context.runtime;
    let name = container.name.clone();
    if !files {
        let found = runtime.container_cgroup_usage(&container.id);
        let found = found.map_err(|error| chain(&error))?;
        return Ok(ContainerUsage {
            name,
            memory: found.memory.map_or(0, |memory| memory.working_set),
            ..ContainerUsage::default()
        });
    }
    let found = runtime.container_usage(&container.id).await;
    let found = found.map_err(|error| chain(&error))?;
    let log = sandbox.spec.log_directory.join(&container.log_path);
    let logs = log.parent().unwrap_or(&log).to_owned();
    let logs = tokio::task::spawn_blocking(move || disk_usage(&logs)).await;
    Ok(ContainerUsage {
        name,
        memory: found.usage.memory.map_or(0, |memory| memory.working_set),
        written: found.writable,
        logs: logs
            .map_err(|error| chain(&error))?
            .map_err(|error| chain(&error))?,
    })
}

async fn volumes(context: &Context, pod: &Arc<Pod>) -> Result<BTreeMap<String, DiskUsage>, String> {
    let dir = context.pod_dir(pod).join("volumes");
    let pod = pod.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let mut all = BTreeMap::new();
        for volume in spec::spec(&pod).volumes.iter().flatten() {
            let kind = match (&volume.empty_dir, &volume.config_map) {
                (Some(_), _) => "kubernetes.io~empty-dir",
                (_, Some(_)) => "kubernetes.io~configmap",
                _ => continue,
            };
            let used = disk_usage(&dir.join(kind).join(&volume.name));
            all.insert(volume.name.clone(), used.map_err(|error| chain(&error))?);
        }
        Ok(all)
    });
    counted.await.map_err(|error| chain(&error))?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    fn disk(bytes: u64, inodes: u64) -> DiskUsage {
        DiskUsage { bytes, inodes }
    }

    #[test]
    fn what_counts_as_the_nodes_disk() {
        let pod = pod(json!({"containers": [], "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "mem", "emptyDir": {"medium": "Memory"}},
            {"name": "cfg", "configMap": {"name": "x"}},
            {"name": "sec", "secret": {"secretName": "x"}},
            {"name": "gone", "emptyDir": {}},
        ]}));
        let volumes = ["scratch", "mem", "cfg", "sec"];
        let used = PodUsage {
            containers: vec![
                ContainerUsage {
                    written: disk(1, 1),
                    logs: disk(2, 1),
                    ..ContainerUsage::default()
                },
                ContainerUsage {
                    written: disk(4, 1),
                    ..ContainerUsage::default()
                },
            ],
            volumes: volumes
                .iter()
                .zip([8, 16, 32, 64])
                .map(|(name, bytes)| ((*name).to_owned(), disk(bytes, 1)))
                .collect(),
            ..PodUsage::default()
        };
        assert_eq!(used.disk(&pod), disk(1 + 2 + 4 + 8 + 32, 5));
    }
}

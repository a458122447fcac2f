//! What sandboxes and containers use, in CRI's messages.

use std::collections::HashSet;

use tonic::Status;
use vetch_cri_proto::v1::{
    ContainerAttributes, ContainerStats, ContainerStatsFilter, CpuUsage, IoUsage,
    LinuxPodSandboxStats, MemoryUsage as CriMemory, NetworkInterfaceUsage, NetworkUsage,
    PodSandboxAttributes, PodSandboxStats, PodSandboxStatsFilter, ProcessUsage, PsiData, PsiStats,
    SwapUsage, UInt64Value,
};
use vetch_runtime::{
    ContainerState, LinkUsage, MemoryUsage, Pressure, SandboxState, SandboxStatus, Stall, Usage,
};

use crate::container::{self, Known};
use crate::filter::{has_labels, is_id, to_map};
use crate::{Cri, error, image, nanos, sandbox};

/// The pod's link, whatever others it has.
const DEFAULT_LINK: &str = "eth0";

impl Cri {
    pub async fn container_stats(&self, wanted: &str) -> Result<ContainerStats, Status> {
        let known = self.find_container(wanted).await?;
        self.stats_of(&known).await
    }

    /// Those that ended use nothing any more and are left out, as are those that go meanwhile.
    pub async fn list_container_stats(
        &self,
        filter: Option<ContainerStatsFilter>,
    ) -> Vec<ContainerStats> {
        let wanted = filter.unwrap_or_default();
        let all = self.containers().await;
        let chosen = all.iter().filter(|known| {
            is_id(&known.status.id.0, &wanted.id)
                && is_id(&known.sandbox.0, &wanted.pod_sandbox_id)
                && has_labels(&known.spec.labels, &wanted.label_selector)
        });
        self.stats_of_all(chosen).await
    }

    async fn stats_of_all(&self, chosen: impl Iterator<Item = &Known>) -> Vec<ContainerStats> {
        let mut stats = Vec::new();
        for known in chosen {
            let is_alive = matches!(
                known.status.state,
                ContainerState::Created | ContainerState::Running
            );
            if is_alive && let Ok(of) = self.stats_of(known).await {
                stats.push(of);
            }
        }
        stats
    }

    async fn stats_of(&self, known: &Known) -> Result<ContainerStats, Status> {
        let id = &known.status.id;
        let found = self
            .runtime
            .container_usage(id)
            .await
            .map_err(error::status)?;
        let dir = self.runtime.root_dir().display().to_string();
        Ok(ContainerStats {
            attributes: Some(ContainerAttributes {
                id: id.0.clone(),
                metadata: Some(container::metadata(&known.spec)),
                labels: container::labels(&known.spec),
                annotations: to_map(&known.spec.annotations),
            }),
            cpu: Some(self.cpu(&id.0, &found.usage)),
            memory: Some(memory(&found.usage)),
            writable_layer: Some(image::filesystem(&dir, found.writable)),
            swap: swap(&found.usage),
            io: io(&found.usage),
        })
    }

    pub async fn sandbox_stats(&self, wanted: &str) -> Result<PodSandboxStats, Status> {
        let sandbox = self.find_sandbox(wanted).await?;
        self.stats_of_sandbox(&sandbox).await
    }

    pub async fn list_sandbox_stats(
        &self,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Vec<PodSandboxStats> {
        let wanted = filter.unwrap_or_default();
        let mut stats = Vec::new();
        for sandbox in self.runtime.list().await {
            if sandbox.state == SandboxState::Ready
                && is_id(&sandbox.id.0, &wanted.id)
                && has_labels(&sandbox.spec.labels, &wanted.label_selector)
                && let Ok(of) = self.stats_of_sandbox(&sandbox).await
            {
                stats.push(of);
            }
        }
        stats
    }

    async fn stats_of_sandbox(&self, sandbox: &SandboxStatus) -> Result<PodSandboxStats, Status> {
        let found = self.runtime.sandbox_usage(&sandbox.id).await;
        let found = found.map_err(error::status)?;
        let own: Vec<Known> = self.containers_of(sandbox).collect();
        Ok(PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.0.clone(),
                metadata: Some(sandbox::metadata(&sandbox.spec)),
                labels: to_map(&sandbox.spec.labels),
                annotations: to_map(&sandbox.spec.annotations),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(self.cpu(&sandbox.id.0, &found.usage)),
                memory: Some(memory(&found.usage)),
                network: Some(network(&found.usage, &found.links)),
                process: Some(ProcessUsage {
                    timestamp: nanos(found.usage.at),
                    process_count: found.usage.pids.map(number),
                }),
                containers: self.stats_of_all(own.iter()).await,
                io: io(&found.usage),
            }),
        })
    }

    fn cpu(&self, id: &str, usage: &Usage) -> CpuUsage {
        CpuUsage {
            timestamp: nanos(usage.at),
            usage_core_nano_seconds: Some(number(usage.cpu.total)),
            usage_nano_cores: self.rates.of(id, usage.at, usage.cpu.total).map(number),
            psi: pressure(usage.cpu_pressure.as_ref()),
        }
    }

    /// Forgets the rates of what is gone.
    pub async fn forget_rates(&self) {
        let sandboxes = self.runtime.list().await;
        let mut known = HashSet::new();
        for sandbox in &sandboxes {
            known.insert(sandbox.id.0.as_str());
            known.extend(sandbox.containers.iter().map(|of| of.id.0.as_str()));
        }
        self.rates.retain(|id| known.contains(id));
    }
}

fn number(value: u64) -> UInt64Value {
    UInt64Value { value }
}

/// Without the controller only the time is told.
fn memory(usage: &Usage) -> CriMemory {
    let known = |of: fn(&MemoryUsage) -> u64| usage.memory.as_ref().map(of).map(number);
    let limit = usage.memory.as_ref().and_then(|memory| memory.limit);
    CriMemory {
        timestamp: nanos(usage.at),
        working_set_bytes: known(|memory| memory.working_set),
        available_bytes: limit
            .zip(usage.memory.as_ref())
            .map(|(limit, memory)| number(limit.saturating_sub(memory.working_set))),
        usage_bytes: known(|memory| memory.usage),
        rss_bytes: known(|memory| memory.rss),
        page_faults: known(|memory| memory.page_faults),
        major_page_faults: known(|memory| memory.major_page_faults),
        psi: pressure(usage.memory_pressure.as_ref()),
    }
}

/// Where the kernel counts it.
fn swap(usage: &Usage) -> Option<SwapUsage> {
    let used = usage.memory.as_ref()?.swap?;
    Some(SwapUsage {
        timestamp: nanos(usage.at),
        swap_available_bytes: None,
        swap_usage_bytes: Some(number(used)),
    })
}

fn io(usage: &Usage) -> Option<IoUsage> {
    Some(IoUsage {
        timestamp: nanos(usage.at),
        psi: Some(pressure(usage.io_pressure.as_ref())?),
    })
}

/// Nanoseconds and per cent, as CRI has them too.
fn pressure(of: Option<&Pressure>) -> Option<PsiStats> {
    let stall = |stall: &Stall| {
        let [avg10, avg60, avg300] = stall.averages;
        PsiData {
            total: stall.total,
            avg10,
            avg60,
            avg300,
        }
    };
    of.map(|of| PsiStats {
        full: Some(stall(&of.full)),
        some: Some(stall(&of.some)),
    })
}

fn network(usage: &Usage, links: &[LinkUsage]) -> NetworkUsage {
    let link = |link: &LinkUsage| NetworkInterfaceUsage {
        name: link.name.clone(),
        rx_bytes: Some(number(link.rx.bytes)),
        rx_errors: Some(number(link.rx.errors)),
        tx_bytes: Some(number(link.tx.bytes)),
        tx_errors: Some(number(link.tx.errors)),
    };
    let (default, others): (Vec<_>, Vec<_>) = links
        .iter()
        .map(link)
        .partition(|link| link.name == DEFAULT_LINK);
    NetworkUsage {
        timestamp: nanos(usage.at),
        default_interface: default.into_iter().next(),
        interfaces: others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_by_kind_and_time() {
        let stall = |total, first: f64| Stall {
            total,
            averages: [first, 2.0, 3.0],
        };
        let of = Pressure {
            some: stall(7000, 1.0),
            full: stall(5000, 0.5),
        };
        let got = pressure(Some(&of)).unwrap();
        let (some, full) = (got.some.unwrap(), got.full.unwrap());
        assert_eq!((some.total, some.avg10, some.avg300), (7000, 1.0, 3.0));
        assert_eq!((full.total, full.avg10, full.avg60), (5000, 0.5, 2.0));
        assert_eq!(pressure(None), None);
    }
}

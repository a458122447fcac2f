//! From samples to stats/v1alpha1.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vetch_runtime::{DiskUsage, LinkUsage, Pressure, Stall, Usage};

use super::disk::{FileSystem, Files};
use super::sample::{
    ContainerMore, ContainerSample, Load, NodeMore, NodeSample, PodMore, PodSample, Sample,
};
use super::types::{
    ContainerStats, CpuStats, FsStats, InterfaceStats, IoStats, MemoryStats, NetworkStats,
    NodeStats, PodReference, PodStats, ProcessStats, PsiData, PsiStats, RlimitStats, RuntimeStats,
    Summary, SwapStats, VolumeStats,
};

/// The link that is told of by itself, whatever others there are: cAdvisor's choice.
const DEFAULT_LINK: &str = "eth0";

pub fn of(sample: &Sample) -> Summary {
    Summary {
        node: node(&sample.node),
        pods: sample.pods.iter().map(pod).collect(),
    }
}

fn node(node: &NodeSample) -> NodeStats {
    let usage = &node.load.usage;
    let more = node.more.as_ref();
    NodeStats {
        node_name: node.name.clone(),
        system_containers: node.pods.iter().map(|load| pods(node, load)).collect(),
        start_time: Time(node.booted),
        cpu: cpu(&node.load),
        memory: node_memory(node),
        io: io(usage),
        network: more.and_then(|more| network(usage.at, &more.links)),
        fs: more.map(|more| whole(usage.at, &more.disk)),
        runtime: more.map(|more| RuntimeStats {
            image_fs: files(usage.at, &more.images),
            container_fs: files(usage.at, &more.written),
        }),
        rlimit: more.map(|more| threads(usage.at, more)),
        swap: node_swap(node),
    }
}

/// As the kubelet has it among the system's containers: all pods together.
fn pods(node: &NodeSample, load: &Load) -> ContainerStats {
    ContainerStats {
        name: "pods".into(),
        start_time: Time(node.booted),
        cpu: cpu(load),
        memory: memory(&load.usage),
        io: io(&load.usage),
        rootfs: None,
        logs: None,
        swap: swap(&load.usage),
    }
}

/// Where the node's cgroup counts no memory, the node has the machine's: its capacity is that too.
fn node_memory(node: &NodeSample) -> MemoryStats {
    let available = |working_set| Some(node.memory.saturating_sub(working_set));
    if let Some(counted) = memory(&node.load.usage) {
        return MemoryStats {
            available_bytes: available(counted.working_set_bytes),
            ..counted
        };
    }
    let machine = &node.meminfo;
    let used = machine.total.saturating_sub(machine.free);
    let working_set = used.saturating_sub(machine.inactive_file);
    MemoryStats {
        time: Time(node.load.usage.at),
        available_bytes: available(working_set),
        usage_bytes: used,
        working_set_bytes: working_set,
        rss_bytes: machine.anonymous,
        page_faults: None,
        major_page_faults: None,
        psi: None,
    }
}

/// Likewise.
fn node_swap(node: &NodeSample) -> SwapStats {
    let machine = &node.meminfo;
    swap(&node.load.usage).unwrap_or_else(|| SwapStats {
        time: Time(node.load.usage.at),
        swap_available_bytes: Some(machine.swap_free),
        swap_usage_bytes: machine.swap_total.saturating_sub(machine.swap_free),
    })
}

fn threads(at: Timestamp, more: &NodeMore) -> RlimitStats {
    let threads = more.threads;
    RlimitStats {
        time: Time(at),
        maxpid: threads.total,
        curproc: threads.total.saturating_sub(threads.available),
    }
}

fn pod(pod: &PodSample) -> PodStats {
    let usage = &pod.load.usage;
    let more = pod.more.as_ref();
    let volumes = more.map_or(&[][..], |more| &more.volumes);
    let processes = usage.pids.filter(|_| more.is_some());
    PodStats {
        pod_ref: PodReference {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            uid: pod.uid.clone(),
        },
        start_time: Time(pod.started),
        containers: pod.containers.iter().map(container).collect(),
        cpu: cpu(&pod.load),
        memory: memory(usage),
        io: io(usage),
        network: more.and_then(|more| network(usage.at, &more.links)),
        volume: volumes
            .iter()
            .map(|(name, of)| VolumeStats {
                fs: files(usage.at, of),
                name: name.clone(),
            })
            .collect(),
        ephemeral_storage: more.and_then(|more| ephemeral(usage.at, pod, more)),
        process_stats: processes.map(|process_count| ProcessStats { process_count }),
        swap: swap(usage),
    }
}

/// All that goes with the pod and is on the disk that containers write to; volumes elsewhere (in
/// memory) are not. None without a container, by which that disk is known.
fn ephemeral(at: Timestamp, pod: &PodSample, more: &PodMore) -> Option<FsStats> {
    let containers = || pod.containers.iter().filter_map(|of| of.more.as_ref());
    let disk = containers().next()?.written.on;
    let own = containers().flat_map(|of| [&of.written, &of.logs]);
    let volumes = more.volumes.iter().map(|(_, files)| files);
    let volumes = volumes.filter(|files| files.on.device == disk.device);
    let mut used = DiskUsage::default();
    for files in own.chain(volumes) {
        used.bytes += files.used.bytes;
        used.inodes += files.used.inodes;
    }
    Some(files(at, &Files { used, on: disk }))
}

fn container(container: &ContainerSample) -> ContainerStats {
    let usage = &container.load.usage;
    let of = |pick: fn(&ContainerMore) -> &Files| {
        let more = container.more.as_ref();
        more.map(|more| files(usage.at, pick(more)))
    };
    ContainerStats {
        name: container.name.clone(),
        start_time: Time(container.started),
        cpu: cpu(&container.load),
        memory: memory(usage),
        io: io(usage),
        rootfs: of(|more| &more.written),
        logs: of(|more| &more.logs),
        swap: swap(usage),
    }
}

fn cpu(load: &Load) -> CpuStats {
    CpuStats {
        time: Time(load.usage.at),
        usage_nano_cores: load.nano_cores,
        usage_core_nano_seconds: load.usage.cpu.total,
        psi: load.usage.cpu_pressure.as_ref().map(psi),
    }
}

fn memory(usage: &Usage) -> Option<MemoryStats> {
    let memory = usage.memory.as_ref()?;
    let available = |limit: u64| limit.saturating_sub(memory.working_set);
    Some(MemoryStats {
        time: Time(usage.at),
        available_bytes: memory.limit.map(available),
        usage_bytes: memory.usage,
        working_set_bytes: memory.working_set,
        rss_bytes: memory.rss,
        page_faults: Some(memory.page_faults),
        major_page_faults: Some(memory.major_page_faults),
        psi: usage.memory_pressure.as_ref().map(psi),
    })
}

/// Only pressure is told of it.
fn io(usage: &Usage) -> Option<IoStats> {
    let pressure = usage.io_pressure.as_ref()?;
    Some(IoStats {
        time: Time(usage.at),
        psi: Some(psi(pressure)),
    })
}

fn psi(pressure: &Pressure) -> PsiStats {
    let data = |stall: &Stall| {
        let [avg10, avg60, avg300] = stall.averages;
        PsiData {
            total: stall.total,
            avg10,
            avg60,
            avg300,
        }
    };
    PsiStats {
        full: data(&pressure.full),
        some: data(&pressure.some),
    }
}

fn swap(usage: &Usage) -> Option<SwapStats> {
    Some(SwapStats {
        time: Time(usage.at),
        swap_available_bytes: None,
        swap_usage_bytes: usage.memory.as_ref()?.swap?,
    })
}

fn network(at: Timestamp, links: &[LinkUsage]) -> Option<NetworkStats> {
    let interfaces: Vec<InterfaceStats> = links.iter().map(interface).collect();
    let default = interfaces
        .iter()
        .find(|link| link.name == DEFAULT_LINK)
        .cloned();
    (!interfaces.is_empty()).then(|| NetworkStats {
        time: Time(at),
        default,
        interfaces,
    })
}

fn interface(link: &LinkUsage) -> InterfaceStats {
    InterfaceStats {
        name: link.name.clone(),
        rx_bytes: link.rx.bytes,
        rx_errors: link.rx.errors,
        tx_bytes: link.tx.bytes,
        tx_errors: link.tx.errors,
    }
}

fn files(at: Timestamp, files: &Files) -> FsStats {
    FsStats {
        used_bytes: files.used.bytes,
        inodes_used: files.used.inodes,
        ..whole(at, &files.on)
    }
}

/// All that is used of a file system, whoever does.
fn whole(at: Timestamp, on: &FileSystem) -> FsStats {
    FsStats {
        time: Time(at),
        available_bytes: on.available,
        capacity_bytes: on.capacity,
        used_bytes: on.capacity.saturating_sub(on.free),
        inodes_free: on.inodes_free,
        inodes: on.inodes,
        inodes_used: on.inodes.saturating_sub(on.inodes_free),
    }
}

#[cfg(test)]
pub mod tests;

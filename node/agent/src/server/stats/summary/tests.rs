use serde_json::{Value, json};
use vetch_runtime::{Counters, CpuUsage, MemoryUsage};

use super::*;
use crate::node::meminfo::Meminfo;
use crate::node::pressure::Room;
use crate::pods::testing::at;

/// So many seconds of processor time; memory as far as it is counted.
pub fn load(seconds: u64, memory: Option<MemoryUsage>) -> Load {
    Load {
        usage: Usage {
            at: at(1000),
            cpu: CpuUsage {
                total: seconds * 1_000_000_000,
                ..CpuUsage::default()
            },
            memory,
            io: None,
            pids: Some(3),
            pids_limit: None,
            cpu_pressure: None,
            memory_pressure: None,
            io_pressure: None,
        },
        nano_cores: None,
    }
}

pub fn memory_of(usage: u64) -> MemoryUsage {
    MemoryUsage {
        usage,
        working_set: usage - 1,
        rss: 7,
        page_faults: 5,
        major_page_faults: 1,
        ..MemoryUsage::default()
    }
}

/// A node with one pod of one container, without what takes time.
pub fn sample() -> Sample {
    Sample {
        node: NodeSample {
            name: "n1".into(),
            booted: at(1),
            load: load(90, None),
            pods: None,
            meminfo: Meminfo {
                total: 1000,
                free: 300,
                available: 600,
                inactive_file: 200,
                anonymous: 100,
                swap_total: 50,
                swap_free: 20,
            },
            memory: 900,
            more: None,
        },
        pods: vec![PodSample {
            name: "web".into(),
            namespace: "shop".into(),
            uid: "u".into(),
            started: at(100),
            load: load(30, Some(memory_of(600))),
            containers: vec![ContainerSample {
                name: "app".into(),
                started: at(101),
                load: load(20, Some(memory_of(500))),
                more: None,
            }],
            more: None,
        }],
    }
}

const NOW: &str = "1970-01-01T00:16:40Z";

fn shown(sample: &Sample) -> Value {
    serde_json::to_value(of(sample)).unwrap()
}

#[test]
fn processors_and_memory_alone() {
    let memory = |usage: u64| {
        json!({
            "time": NOW, "usageBytes": usage, "workingSetBytes": usage - 1, "rssBytes": 7,
            "pageFaults": 5, "majorPageFaults": 1,
        })
    };
    let cpu = |seconds: u64| json!({"time": NOW, "usageCoreNanoSeconds": seconds * 1_000_000_000});
    assert_eq!(
        shown(&sample()),
        json!({
            "node": {
                "nodeName": "n1", "startTime": "1970-01-01T00:00:01Z", "cpu": cpu(90),
                // The machine's: its cgroup has none.
                "memory": {
                    "time": NOW, "availableBytes": 400, "usageBytes": 700, "workingSetBytes": 500,
                    "rssBytes": 100,
                },
                "swap": {"time": NOW, "swapAvailableBytes": 20, "swapUsageBytes": 30},
            },
            "pods": [{
                "podRef": {"name": "web", "namespace": "shop", "uid": "u"},
                "startTime": "1970-01-01T00:01:40Z", "cpu": cpu(30), "memory": memory(600),
                "containers": [{
                    "name": "app", "startTime": "1970-01-01T00:01:41Z", "cpu": cpu(20),
                    "memory": memory(500),
                }],
            }],
        })
    );
}

#[test]
fn what_is_counted_for_the_node_is_told_of_it() {
    let mut sample = sample();
    sample.node.load = load(
        90,
        Some(MemoryUsage {
            swap: Some(4),
            ..memory_of(500)
        }),
    );
    sample.node.load.nano_cores = Some(12);
    sample.node.pods = Some(load(40, None));
    let shown = shown(&sample);
    let node = &shown["node"];
    assert_eq!(node["memory"]["workingSetBytes"], 499);
    assert_eq!(node["memory"]["availableBytes"], 401);
    assert_eq!(node["swap"], json!({"time": NOW, "swapUsageBytes": 4}));
    assert_eq!(node["cpu"]["usageNanoCores"], 12);
    let pods = &node["systemContainers"][0];
    assert_eq!(pods["name"], "pods");
    assert_eq!(pods["cpu"]["usageCoreNanoSeconds"], 40_000_000_000_u64);
    // Of its pods none is counted.
    assert_eq!(pods.get("memory"), None);
}

fn link(name: &str, bytes: u64) -> LinkUsage {
    let counters = |bytes, errors| Counters {
        bytes,
        errors,
        ..Counters::default()
    };
    LinkUsage {
        name: name.into(),
        rx: counters(bytes, 1),
        tx: counters(2 * bytes, 2),
    }
}

fn files_on(device: u64, bytes: u64) -> Files {
    Files {
        used: DiskUsage { bytes, inodes: 1 },
        on: FileSystem {
            device,
            capacity: 10_000,
            free: 4000,
            available: 3000,
            inodes: 100,
            inodes_free: 60,
        },
    }
}

fn fs(used: u64, inodes: u64) -> Value {
    json!({
        "time": NOW, "availableBytes": 3000, "capacityBytes": 10_000, "usedBytes": used,
        "inodesFree": 60, "inodes": 100, "inodesUsed": inodes,
    })
}

#[test]
fn links_and_files() {
    let mut sample = sample();
    sample.node.more = Some(NodeMore {
        links: vec![link("ens3", 9)],
        disk: files_on(1, 0).on,
        images: files_on(1, 70),
        written: files_on(1, 80),
        threads: Room {
            available: 30,
            total: 100,
        },
    });
    let pod = &mut sample.pods[0];
    pod.more = Some(PodMore {
        links: vec![link("eth1", 5), link("eth0", 3)],
        volumes: vec![
            ("cache".into(), files_on(1, 1000)),
            ("token".into(), files_on(2, 4)),
        ],
    });
    pod.containers[0].more = Some(ContainerMore {
        written: files_on(1, 100),
        logs: files_on(3, 10),
    });
    let shown = shown(&sample);
    let node = &shown["node"];
    assert_eq!(node["fs"], fs(6000, 40));
    assert_eq!(node["runtime"]["imageFs"], fs(70, 1));
    assert_eq!(node["runtime"]["containerFs"], fs(80, 1));
    assert_eq!(
        node["rlimit"],
        json!({"time": NOW, "maxpid": 100, "curproc": 70})
    );
    let told = |name: &str, bytes: u64| json!({"name": name, "rxBytes": bytes, "rxErrors": 1, "txBytes": 2 * bytes, "txErrors": 2});
    // It has no link that is the default by its name.
    assert_eq!(
        node["network"],
        json!({"time": NOW, "interfaces": [told("ens3", 9)]})
    );
    let pod = &shown["pods"][0];
    let mut network = told("eth0", 3);
    network["time"] = NOW.into();
    network["interfaces"] = json!([told("eth1", 5), told("eth0", 3)]);
    assert_eq!(pod["network"], network);
    assert_eq!(pod["process_stats"], json!({"process_count": 3}));
    assert_eq!(pod["containers"][0]["rootfs"], fs(100, 1));
    assert_eq!(pod["containers"][0]["logs"], fs(10, 1));
    let mut cache = fs(1000, 1);
    cache["name"] = "cache".into();
    assert_eq!(pod["volume"][0], cache);
    assert_eq!(pod["volume"][1]["usedBytes"], 4);
    // Without the volume in memory.
    assert_eq!(pod["ephemeral-storage"], fs(1110, 3));
}

#[test]
fn a_pod_of_the_nodes_network_has_none_of_its_own() {
    let mut sample = sample();
    sample.pods[0].more = Some(PodMore {
        links: vec![],
        volumes: vec![],
    });
    sample.pods[0].containers.clear();
    let shown = shown(&sample);
    let pod = &shown["pods"][0];
    assert_eq!(pod.get("network"), None);
    assert_eq!(pod.get("volume"), None);
    assert_eq!(pod.get("ephemeral-storage"), None);
    assert_eq!(pod["containers"], json!([]));
}

#[test]
fn pressure_where_the_kernel_counts_it() {
    let mut sample = sample();
    assert_eq!(shown(&sample)["pods"][0]["io"], json!(null));
    let stall = |total| Stall {
        total,
        averages: [1.5, 0.5, 0.25],
    };
    let pressure = Pressure {
        some: stall(9),
        full: stall(4),
    };
    let usage = &mut sample.pods[0].load.usage;
    usage.cpu_pressure = Some(pressure.clone());
    usage.io_pressure = Some(pressure);
    let data = |total: u64| json!({"total": total, "avg10": 1.5, "avg60": 0.5, "avg300": 0.25});
    let psi = json!({"some": data(9), "full": data(4)});
    let shown = shown(&sample);
    assert_eq!(shown["pods"][0]["cpu"]["psi"], psi);
    assert_eq!(shown["pods"][0]["io"]["psi"], psi);
    assert_eq!(shown["pods"][0]["containers"][0]["cpu"].get("psi"), None);
}

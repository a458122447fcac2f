//! The Node's task against a real API server (in process, over a real etcd),
//! with the real runtime and pod network: needs root and etcd. Each test has a
//! network namespace of its own.

mod api;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vetch_agent::node::image_gc::Collector;
use vetch_agent::node::machine::Machine;
use vetch_agent::node::pressure::Pressure;
use vetch_agent::node::{self, NodeConfig, NodeError};
use vetch_network::{Network, NetworkConfig};
use vetch_runtime::{Runtime, RuntimeConfig};

use api::ApiServer;

const IP: Ipv4Addr = Ipv4Addr::new(172, 30, 98, 2);
const NODE: &str = "/api/v1/nodes/n1";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";

struct Daemon {
    ready: watch::Receiver<bool>,
    tables: watch::Sender<Option<String>>,
    short: watch::Sender<Pressure>,
    down: watch::Sender<bool>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Daemon {
    async fn start(api: &ApiServer, dir: &Path) -> Daemon {
        let cgroup_root = dir.join("cgroup");
        fs::create_dir_all(&cgroup_root).unwrap();
        // A cgroup that offers nothing: what the node then says is tested.
        fs::write(cgroup_root.join("cgroup.controllers"), "").unwrap();
        let root_dir = dir.join("root");
        let runtime = Runtime::open(RuntimeConfig {
            root_dir: root_dir.clone(),
            run_dir: dir.join("run"),
            cgroup_root: cgroup_root.clone(),
            shim: "/no/shim".into(),
            pull_netns: None,
            insecure_registries: vec![],
            registry_hosts_dir: None,
        })
        .await
        .unwrap();
        let network = Network::open(NetworkConfig {
            node_name: "n1".into(),
            node_ips: vec![IP.into()],
            state_dir: dir.join("network"),
            mtu: None,
            vxlan: vetch_network::Vxlan::default(),
        })
        .await
        .unwrap();
        let (tables, table_pressure) = watch::channel(None);
        let (down, shutting_down) = watch::channel(false);
        let (short, pressure) = watch::channel(Pressure::default());
        let config = NodeConfig {
            name: "n1".into(),
            ips: vec![IP.into()],
            labels: BTreeMap::from([("zone".into(), "a".into())]),
            taints: vec![Taint {
                key: "own".into(),
                effect: "PreferNoSchedule".into(),
                ..Taint::default()
            }],
            kubelet_port: 10250,
            max_pods: 110,
            eviction: Default::default(),
            pressure,
            shutting_down,
            images: Arc::new(Collector::new(
                runtime.clone(),
                root_dir.clone(),
                Default::default(),
            )),
            machine: Machine::read(&root_dir, &cgroup_root).unwrap(),
            root_dir,
            cgroup_root,
            table_pressure,
        };
        let (sender, ready) = watch::channel(false);
        let stop = CancellationToken::new();
        let task = tokio::spawn(node::run(
            api.node.clone(),
            config,
            runtime,
            network,
            sender,
            stop.clone(),
        ));
        Daemon {
            ready,
            tables,
            short,
            down,
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// In a network namespace of the test's thread and those it starts.
fn apart<F: Future<Output = ()>>(job: impl FnOnce() -> F) {
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare: these tests need root");
    for line in [
        "link set lo up".to_owned(),
        "link add eth0 type veth peer name cable".to_owned(),
        format!("addr add {IP}/24 dev eth0"),
        "link set eth0 up".to_owned(),
        "link set cable up".to_owned(),
    ] {
        let done = Command::new("ip").args(line.split(' ')).status().unwrap();
        assert!(done.success(), "ip {line}");
    }
    tokio::runtime::Runtime::new().unwrap().block_on(job());
}

fn routes() -> String {
    let output = Command::new("ip").args(["route"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}; routes:\n{}", routes()));
}

fn condition<'a>(node: &'a Value, type_: &str) -> &'a Value {
    let conditions = node["status"]["conditions"].as_array();
    let found = conditions.and_then(|all| all.iter().find(|known| known["type"] == type_));
    found.unwrap_or(&Value::Null)
}

fn ready(node: &Value, status: &str) -> bool {
    condition(node, "Ready")["status"] == status
}

#[test]
fn a_node_registers_gets_its_network_and_stays_alive() {
    apart(async || {
        let api = ApiServer::start().await;
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&api, dir.path()).await;
        let node = api
            .until(NODE, "registration", |node| ready(node, "False"))
            .await;
        let why = condition(&node, "Ready")["message"].as_str().unwrap();
        assert!(why.ends_with("the node has no podCIDR yet"), "{why}");
        assert!(!*daemon.ready.borrow());
        for (label, value) in [
            ("zone", "a"),
            ("kubernetes.io/hostname", "n1"),
            ("kubernetes.io/os", "linux"),
        ] {
            assert_eq!(node["metadata"]["labels"][label], value, "{label}");
        }
        let own = json!({"key": "own", "effect": "PreferNoSchedule"});
        assert_eq!(node["spec"]["taints"][0], own);
        let missing = condition(&node, "CgroupControllersMissing");
        assert_eq!(missing["status"], "True");
        assert!(
            missing["message"]
                .as_str()
                .unwrap()
                .contains("cpu, memory, pids"),
            "{missing}"
        );

        let devices = condition(&node, "DeviceCgroupMissing");
        assert_eq!(devices["status"], "True");
        let why = devices["message"].as_str().unwrap();
        assert!(why.contains("device programs of cgroup"), "{why}");

        daemon.tables.send_replace(Some("FLOWS 120 of 128".into()));
        api.give_cidr("n1", "10.244.7.0/24").await;
        let node = api.until(NODE, "Ready", |node| ready(node, "True")).await;
        assert_eq!(condition(&node, "Ready")["reason"], "KubeletReady");
        let tables = condition(&node, "ServiceTablesPressure");
        assert_eq!(tables["status"], "True");
        let why = tables["message"].as_str().unwrap();
        assert!(why.ends_with("FLOWS 120 of 128"), "{why}");
        assert_eq!(condition(&node, "DiskPressure")["status"], "False");
        daemon.short.send_replace(Pressure {
            disk: true,
            ..Pressure::default()
        });
        // Reported before the next round of ten seconds.
        let told = |node: &Value| condition(node, "DiskPressure")["status"] == "True";
        let node = api.until(NODE, "disk pressure", told).await;
        let why = &condition(&node, "DiskPressure")["reason"];
        assert_eq!(why, "KubeletHasDiskPressure");
        assert_eq!(condition(&node, "MemoryPressure")["status"], "False");
        daemon.down.send_replace(true);
        let node = api
            .until(NODE, "not ready", |node| ready(node, "False"))
            .await;
        let why = &condition(&node, "Ready")["message"];
        assert_eq!(why, "node is shutting down");
        daemon.down.send_replace(false);
        api.until(NODE, "Ready", |node| ready(node, "True")).await;
        let mut ready = daemon.ready.clone();
        ready.wait_for(|ready| *ready).await.unwrap();

        let lease = api
            .until(LEASE, "the lease", |lease| !lease.is_null())
            .await;
        assert_eq!(lease["spec"]["holderIdentity"], "n1");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 40);
        assert_eq!(
            lease["metadata"]["ownerReferences"][0]["uid"],
            node["metadata"]["uid"]
        );
        let first = lease["spec"]["renewTime"].clone();
        api.until(LEASE, "a renewal", |lease| {
            lease["spec"]["renewTime"] != first
        })
        .await;

        let events = api
            .until(
                "/api/v1/namespaces/default/events",
                "the event of readiness",
                |events| {
                    let items = events["items"].as_array();
                    items.is_some_and(|all| all.iter().any(|event| event["reason"] == "NodeReady"))
                },
            )
            .await;
        let reasons: Vec<&Value> = events["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| &event["reason"])
            .collect();
        for reason in [
            "Starting",
            "NodeHasSufficientMemory",
            "NodeNotReady",
            "NodeReady",
        ] {
            assert!(
                reasons.contains(&&json!(reason)),
                "{reason} is not in {reasons:?}"
            );
        }
        daemon.stop().await;
    });
}

#[test]
fn what_others_write_is_put_right_or_left_alone() {
    apart(async || {
        let api = ApiServer::start().await;
        let dir = tempfile::tempdir().unwrap();
        api.create(json!({
            "metadata": {"name": "n1", "labels": {"zone": "old", "mine": "kept"}},
            "spec": {"podCIDR": "10.244.7.0/24", "podCIDRs": ["10.244.7.0/24"], "unschedulable": true},
            "status": {"conditions": [
                {"type": "FrequentRestarts", "status": "False", "reason": "x", "message": "y"},
                {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."},
            ]},
        }))
        .await;
        let daemon = Daemon::start(&api, dir.path()).await;
        let node = api
            .until(NODE, "adoption", |node| ready(node, "True"))
            .await;
        assert_eq!(node["metadata"]["labels"]["zone"], "a");
        assert_eq!(node["metadata"]["labels"]["mine"], "kept");
        assert_eq!(node["spec"]["unschedulable"], true);
        assert_eq!(condition(&node, "FrequentRestarts")["reason"], "x");

        // As the node controller does when it hears nothing.
        let unknown = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        let params = kube::api::PatchParams::default();
        let patch = kube::api::Patch::Strategic(unknown);
        api.nodes()
            .patch_status("n1", &params, &patch)
            .await
            .unwrap();
        api.until(NODE, "Ready again", |node| ready(node, "True"))
            .await;

        // What is as it should be is not written again.
        let version = |node: &Value| node["metadata"]["resourceVersion"].clone();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = version(&api.get(NODE).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(version(&api.get(NODE).await), before);
        daemon.stop().await;
    });
}

#[test]
fn other_nodes_pods_are_routed_to() {
    apart(async || {
        let api = ApiServer::start().await;
        let dir = tempfile::tempdir().unwrap();
        let peer = |name: &str, cidr: &str, ip: &str| {
            json!({
                "metadata": {"name": name},
                "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
                "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
            })
        };
        api.create(peer("n2", "10.244.2.0/24", "172.30.98.3")).await;
        let daemon = Daemon::start(&api, dir.path()).await;
        until("the route to n2", || {
            routes().contains("10.244.2.0/24 via 172.30.98.3 dev eth0")
        })
        .await;
        // One that cannot be reached from here keeps no other from being routed to.
        api.create(peer("n3", "10.244.3.0/24", "192.0.2.1")).await;
        api.create(peer("n4", "10.244.4.0/24", "172.30.98.4")).await;
        until("the route to n4", || {
            routes().contains("10.244.4.0/24 via 172.30.98.4 dev eth0")
        })
        .await;
        assert!(!routes().contains("10.244.3.0/24"), "{}", routes());
        api.nodes().delete("n2", &Default::default()).await.unwrap();
        until("no route to n2", || !routes().contains("10.244.2.0/24")).await;
        daemon.stop().await;
        // Traffic does not wait for a daemon.
        assert!(routes().contains("10.244.4.0/24"), "{}", routes());
    });
}

#[test]
fn an_api_server_that_is_away_is_waited_for() {
    apart(async || {
        let api = ApiServer::start().await;
        let dir = tempfile::tempdir().unwrap();
        api.away.store(true, Ordering::Relaxed);
        let daemon = Daemon::start(&api, dir.path()).await;
        until("tries", || api.refused.load(Ordering::Relaxed) >= 3).await;
        assert!(!daemon.task.is_finished());
        api.away.store(false, Ordering::Relaxed);
        api.until(NODE, "registration", |node| !node.is_null())
            .await;
        api.give_cidr("n1", "10.244.7.0/24").await;
        api.until(NODE, "Ready", |node| ready(node, "True")).await;
        daemon.stop().await;
    });
}

/// The address is the network's to check; what it says names the node's.
#[test]
fn a_node_address_must_be_a_local_one() {
    apart(async || {
        let dir = tempfile::tempdir().unwrap();
        let config = NetworkConfig {
            node_name: "n1".into(),
            node_ips: vec![IpAddr::V4(Ipv4Addr::new(172, 30, 98, 99))],
            state_dir: dir.path().join("network"),
            mtu: None,
            vxlan: vetch_network::Vxlan::default(),
        };
        let error = Network::open(config).await.err().unwrap().to_string();
        assert!(error.contains("172.30.98.99"), "{error}");
    });
}

//! The daemon of a test's node: it may end and begin again.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vetch_agent::node::image_gc::Collector;
use vetch_agent::node::machine::Machine;
use vetch_agent::node::pressure::{Eviction, Place, Pressure};
use vetch_agent::pods::{self, EvictionConfig, PodsConfig, Shutdown};
use vetch_network::{Network, NetworkConfig};
use vetch_runtime::{Runtime, RuntimeConfig};

use crate::cluster::{Cluster, NODE};
use crate::image;
use crate::lab::Lab;

pub struct Agent {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), pods::Error>>,
    pub network_ready: watch::Sender<bool>,
    pub runtime: Runtime,
}

impl Agent {
    pub async fn start(lab: &Lab, cluster: &Cluster) -> Agent {
        let agent = Agent::start_without_network(lab, cluster).await;
        agent.network_ready.send_replace(true);
        agent
    }

    pub async fn start_without_network(lab: &Lab, cluster: &Cluster) -> Agent {
        // However full this machine is.
        let never = Eviction::parse("", "", "", Duration::ZERO).unwrap();
        Agent::start_with(lab, cluster, never).await
    }

    pub async fn start_with(lab: &Lab, cluster: &Cluster, eviction: Eviction) -> Agent {
        Agent::start_so(lab, cluster, eviction, Shutdown::never()).await
    }

    pub async fn start_so(
        lab: &Lab,
        cluster: &Cluster,
        eviction: Eviction,
        ending: Shutdown,
    ) -> Agent {
        let runtime = Runtime::open(RuntimeConfig {
            root_dir: lab.path("root"),
            run_dir: lab.run_dir().to_owned(),
            cgroup_root: lab.cgroup.clone(),
            shim: lab.shim.clone(),
            pull_netns: None,
            insecure_registries: Vec::new(),
            registry_hosts_dir: None,
        })
        .await
        .unwrap();
        if runtime.images().status(image::BUSYBOX).await.is_none() {
            let tar = lab.path("busybox.tar");
            image::save_busybox(&tar);
            runtime.images().import(&tar).await.unwrap();
            fs::remove_file(&tar).unwrap();
        }
        let network = Network::open(NetworkConfig {
            node_name: NODE.into(),
            node_ips: vec![lab.node_ip()],
            state_dir: lab.path("network"),
            mtu: None,
            vxlan: vetch_network::Vxlan::default(),
        })
        .await
        .unwrap();
        network
            .set_pod_cidrs(&["10.244.99.0/24".parse().unwrap()])
            .await
            .unwrap();
        fs::create_dir_all(lab.path("manifests")).unwrap();
        let config = PodsConfig {
            node_name: NODE.into(),
            node_ips: vec![lab.node_ip()],
            pod_dir: lab.path("pods"),
            pod_log_dir: lab.path("logs"),
            pod_manifest_path: Some(lab.path("manifests")),
            seccomp_root: lab.path("seccomp"),
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            can_lower_oom_score: false,
            capacity: BTreeMap::new(),
            pod_max_pids: None,
            memory_qos: None,
            missing_controllers: runtime.missing_controllers(),
            eviction: EvictionConfig {
                thresholds: eviction,
                place: Place {
                    machine: Machine::default(),
                    root_dir: lab.path("root"),
                    cgroup_root: lab.cgroup.clone(),
                },
                images: Arc::new(Collector::new(
                    runtime.clone(),
                    lab.path("root"),
                    Default::default(),
                )),
                pressure: watch::Sender::new(Pressure::default()),
                every: Duration::from_millis(100),
            },
            shutdown: ending,
            probes: pods::ProbeNumbers::default(),
        };
        let (network_ready, receiver) = watch::channel(false);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(pods::run(
            cluster.client.clone(),
            config,
            runtime.clone(),
            network,
            receiver,
            shutdown.clone(),
        ));
        Agent {
            shutdown,
            task,
            network_ready,
            runtime,
        }
    }

    /// The pods go on.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// One test on one node.
pub fn on_a_node(test: impl AsyncFnOnce(&Lab, &Cluster, &Agent)) {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        test(&lab, &cluster, &agent).await;
        agent.stop().await;
    });
}

/// A container that runs a script.
pub fn shell(name: &str, script: &str) -> Value {
    json!({
        "name": name, "image": image::BUSYBOX, "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    })
}

/// A pod of one container `app`.
pub fn app(script: &str) -> Value {
    json!({"containers": [shell("app", script)]})
}

/// With more fields of the container.
pub fn app_with(script: &str, fields: Value) -> Value {
    let mut spec = app(script);
    for (key, value) in fields.as_object().unwrap() {
        spec["containers"][0][key] = value.clone();
    }
    spec
}

/// What the container wrote, without times and streams.
pub fn log(lab: &Lab, pod: &Value, container: &str, attempt: u32) -> String {
    let meta = &pod["metadata"];
    let text = |key: &str| meta[key].as_str().unwrap().to_owned();
    let dir = format!("{}_{}_{}", text("namespace"), text("name"), text("uid"));
    let path = lab
        .path("logs")
        .join(dir)
        .join(container)
        .join(format!("{attempt}.log"));
    let entries = fs::read_to_string(&path).unwrap_or_default();
    let line = |entry: &str| entry.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    let lines: Vec<String> = entries.lines().map(line).collect();
    lines.join("\n")
}

//! The parts together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;
use kube::Client;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use vetch_network::Network;
use vetch_runtime::Runtime;

use crate::logind;
use crate::node::image_gc::{Collector, Thresholds};
use crate::node::machine::Machine;
use crate::node::pressure::{Eviction, Place, Pressure};
use crate::node::{self, NodeConfig, NodeError};
use crate::pods::{self, EvictionConfig, MemoryQos, Periods, PodsConfig, ProbeNumbers, Shutdown};
use crate::server::{self, ApiPods, ServerConfig, ServerError, Settings};

pub struct AgentConfig {
    pub node_name: String,
    /// One of each family at most, the main one first.
    pub node_ips: Vec<IpAddr>,
    /// Of the Node, beside the ones every node has.
    pub labels: BTreeMap<String, String>,
    /// Of a Node that is made; one that is there keeps its own.
    pub taints: Vec<Taint>,
    /// Volumes of pods and the serving certificate; its disk is the node's.
    pub root_dir: PathBuf,
    pub pod_log_dir: PathBuf,
    /// Manifests of static pods.
    pub pod_manifest_path: Option<PathBuf>,
    /// Seccomp profiles of type Localhost.
    pub seccomp_root: PathBuf,
    /// Above all pods; its limits are the node's capacity.
    pub cgroup_root: PathBuf,
    /// For the kubelet API, bound.
    pub kubelet: TcpListener,
    /// The node takes no more pods than these.
    pub max_pods: u32,
    /// How many processes and threads a pod has at most; `None` for no limit.
    pub pod_max_pids: Option<i64>,
    /// The throttling factor and whether memory is reserved (`pods::MemoryQos`); `None` for limits alone.
    pub memory_qos: Option<(f64, bool)>,
    /// When images have to go.
    pub image_gc: Thresholds,
    /// When pods have to.
    pub eviction: Eviction,
    /// How long the machine waits for its pods when it goes down.
    pub shutdown: Periods,
    /// Whose client certificates the kubelet API believes.
    pub client_authorities: Vec<CertificateDer<'static>>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Whether processes may be made less likely to be killed than this one.
    pub can_lower_oom_score: bool,
    /// Which tables of the service programs are nearly full, in words: a
    /// condition of the Node.
    pub table_pressure: watch::Receiver<Option<String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("node")]
    Node(#[from] NodeError),
    #[error("pods")]
    Pods(#[from] pods::Error),
    #[error("kubelet API")]
    Server(#[from] ServerError),
    #[error("the kubelet API's listening socket")]
    Listener(#[source] std::io::Error),
    #[error("a part of the agent ended by itself")]
    Ended,
    #[error("a part of the agent died")]
    Died(#[from] tokio::task::JoinError),
}

/// Until `shutdown`, which leaves the pods as they are, or until a part fails:
/// there is no half of a node.
pub async fn run(
    client: Client,
    config: AgentConfig,
    runtime: Runtime,
    network: Network,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let machine = Machine::read(&config.root_dir, &config.cgroup_root)?;
    let port = config.kubelet.local_addr().map_err(Error::Listener)?.port();

    let capacity = node::capacity::capacity(&machine, config.max_pods);
    let allocatable = node::capacity::allocatable(&machine, config.max_pods, &config.eviction);
    let memory_qos = config
        .memory_qos
        .map(|(throttling_factor, reserves)| MemoryQos {
            throttling_factor,
            reserves,
            allocatable: allocatable.get("memory").map_or(0, pods::quantity_value),
        });

    let (ready, network_ready) = watch::channel(false);
    let (short, pressure) = watch::channel(Pressure::default());
    let images = Arc::new(Collector::new(
        runtime.clone(),
        config.root_dir.clone(),
        config.image_gc,
    ));
    let eviction = EvictionConfig {
        thresholds: config.eviction.clone(),
        place: Place {
            machine: machine.clone(),
            root_dir: config.root_dir.clone(),
            cgroup_root: config.cgroup_root.clone(),
        },
        images: images.clone(),
        pressure: short,
        every: node::OBSERVE_EVERY,
    };
    let (down, going_down) = watch::channel(false);
    let (state, shutting_down) = watch::channel(false);
    let (all_ended, ended) = watch::channel(false);
    let periods = config.shutdown;
    let ending = Shutdown {
        periods,
        going_down,
        state,
        ended: all_ended,
    };
    let settings = Settings {
        node_name: config.node_name.clone(),
        root_dir: config.root_dir.clone(),
        pod_log_dir: config.pod_log_dir.clone(),
        cgroup_root: config.cgroup_root.clone(),
        machine: machine.clone(),
        max_pods: config.max_pods,
        pod_max_pids: config.pod_max_pids,
        memory_qos,
        image_gc: config.image_gc,
        eviction: config.eviction.clone(),
        shutdown: periods,
        cluster_dns: config.cluster_dns.clone(),
        cluster_domain: config.cluster_domain.clone(),
    };
    let node = NodeConfig {
        name: config.node_name.clone(),
        ips: config.node_ips.clone(),
        labels: config.labels,
        taints: config.taints,
        kubelet_port: port,
        max_pods: config.max_pods,
        root_dir: config.root_dir.clone(),
        cgroup_root: config.cgroup_root,
        machine,
        eviction: config.eviction,
        pressure,
        shutting_down,
        images,
        table_pressure: config.table_pressure,
    };
    let probes = ProbeNumbers::default();
    let pods = PodsConfig {
        node_name: config.node_name.clone(),
        node_ips: config.node_ips.clone(),
        pod_dir: config.root_dir.join("pods"),
        pod_log_dir: config.pod_log_dir,
        pod_manifest_path: config.pod_manifest_path,
        seccomp_root: config.seccomp_root,
        cluster_dns: config.cluster_dns,
        cluster_domain: config.cluster_domain,
        can_lower_oom_score: config.can_lower_oom_score,
        capacity,
        pod_max_pids: config.pod_max_pids,
        memory_qos,
        missing_controllers: runtime.missing_controllers(),
        eviction,
        shutdown: ending,
        probes: probes.clone(),
    };
    let server = ServerConfig {
        node_ips: config.node_ips,
        listener: config.kubelet,
        client_authorities: config.client_authorities,
        certificate_dir: config.root_dir.join("pki"),
        pods: Arc::new(ApiPods {
            client: client.clone(),
            node_name: config.node_name,
        }),
        settings,
        probes,
    };

    let _logind = (!periods.grace.is_zero()).then(|| {
        let task = tokio::spawn(logind::follow(periods.grace, down, ended));
        AbortOnDropHandle::new(task)
    });
    let mut parts = JoinSet::new();
    let (c, r, n, stop) = (
        client.clone(),
        runtime.clone(),
        network.clone(),
        shutdown.clone(),
    );
    parts.spawn(async move { Ok(node::run(c, node, r, n, ready, stop).await?) });
    let (c, r, stop) = (client.clone(), runtime.clone(), shutdown.clone());
    parts.spawn(async move { Ok(server::run(c, server, r, stop).await?) });
    let stop = shutdown.clone();
    parts.spawn(async move {
        Ok(pods::run(client, pods, runtime, network, network_ready, stop).await?)
    });
    while let Some(ended) = parts.join_next().await {
        match ended? {
            Ok(()) if shutdown.is_cancelled() => {}
            Ok(()) => return Err(Error::Ended),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

//! The proxy as a process of its own, over an API server in the test's: one
//! that can be killed, and whose memory is its own.

use std::{
    collections::HashMap,
    env,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use axum::http::{Request, Uri};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kube::client::Body;
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use vetch_network::{Network, NetworkConfig};
use vetch_proxy::{AttachedPods, HostPorts, ProxyConfig};

/// Where the process finds what it is to do.
const ORDERS: &str = "VETCH_LAB_DAEMON";

/// What the daemon of a node is told; it is in the namespaces and the cgroup
/// of the thread that starts it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub api: SocketAddr,
    pub pin_dir: PathBuf,
    pub cgroup: PathBuf,
    pub node_ips: Vec<IpAddr>,
    /// Its pods, where it has any.
    pub pods: Option<Pods>,
    /// Have the programs tell what they do: other programs, then.
    pub verbose: bool,
}

/// The pods of an earlier daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pods {
    pub state_dir: PathBuf,
    pub cidr: String,
    /// Network namespaces by the sandbox's number.
    pub live: HashMap<String, PathBuf>,
}

/// Is killed when this goes.
pub struct Daemon(Child);

impl Daemon {
    pub fn start(orders: &Orders) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "daemon::process", "--ignored", "--nocapture"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A file that this process has open, for others.
pub fn shared(file: &impl AsRawFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

#[test]
#[ignore = "a process of other tests, which start it"]
fn process() {
    let orders = env::var(ORDERS).expect("the orders of the test that starts this");
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    // With the thread of the test.
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let log = tracing_subscriber::fmt();
    if orders.verbose {
        let unread = log.with_max_level(tracing::Level::DEBUG);
        unread.with_writer(std::io::sink).init();
    } else {
        let told = log.with_max_level(tracing::Level::WARN);
        told.with_writer(std::io::stderr).init();
    }
    // As `vetch-node` does.
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio
        .block_on(async {
            let (_none, no_pods) = tokio::sync::watch::channel(None);
            let network = match &orders.pods {
                Some(pods) => Some(network(&orders, pods).await),
                None => None,
            };
            let pods: AttachedPods = network.as_ref().map_or(no_pods, Network::pods);
            let (_none, no_ports) = tokio::sync::watch::channel(Some(Arc::default()));
            let ports: HostPorts = network.as_ref().map_or(no_ports, Network::host_ports);
            let config = ProxyConfig {
                node_name: "test".into(),
                node_ips: orders.node_ips.clone(),
                cgroup: orders.cgroup.clone(),
                pin_dir: orders.pin_dir.clone(),
                service_proxy_name: None,
                uplinks: Vec::new(),
                tables: vetch_proxy::TableSizes::of_memory(1 << 30),
                source_ports: vetch_proxy::SNAT_PORTS,
                xdp: vetch_proxy::Xdp::Off,
                load_balancer_mode: vetch_proxy::LoadBalancerMode::Snat,
                vxlan_vni: 86,
                masquerade: vetch_proxy::Masquerade::On,
                non_masquerade_cidrs: Vec::new(),
                connection_metrics: false,
                healthz_address: None,
                metrics_address: None,
                own_service: None,
                tap: None,
                policies_file: None,
            };
            let shutdown = CancellationToken::new();
            let (pressure, _) = tokio::sync::watch::channel(None);
            let guard = vetch_proxy::Guard::default();
            let api = client(orders.api);
            vetch_proxy::run(api, config, pods, ports, guard, pressure, shutdown).await
        })
        .unwrap();
}

async fn network(orders: &Orders, pods: &Pods) -> Network {
    let config = NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![orders.node_ips[0]],
        state_dir: pods.state_dir.clone(),
        mtu: None,
        vxlan: vetch_network::Vxlan::default(),
    };
    let network = Network::open(config).await.unwrap();
    let cidr = pods.cidr.parse().unwrap();
    network.set_pod_cidrs(&[cidr]).await.unwrap();
    let live = pods.live.iter();
    let live = live.map(|(id, path)| (id.clone(), Some(path.clone())));
    network.retain(&live.collect()).await.unwrap();
    network
}

fn client(api: SocketAddr) -> kube::Client {
    let http: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let path = request.uri().path_and_query().unwrap().clone();
        *request.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(api.to_string())
            .path_and_query(path)
            .build()
            .unwrap();
        http.request(request)
    });
    kube::Client::new(service, "default")
}

/// The number of the program that answers a hook; 0 while there is none.
pub fn answering(pin_dir: &Path, hook: &str) -> u32 {
    let programs = vetch_proxy::loaded(pin_dir).unwrap_or_default();
    let program = programs.iter().find(|program| program.hook == hook);
    program.map_or(0, |program| program.id)
}

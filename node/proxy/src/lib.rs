//! The service proxy of one node: Services, EndpointSlices, Nodes and the host ports of its pods →
//! eBPF maps.
//!
//! [`run`] watches, [`wanted`] and [`diff`] decide without touching anything,
//! [`maps`] and [`programs`] act. Programs, links and maps are pinned and
//! outlive the process: a daemon that dies or is replaced costs no connection.
//!
//! A frontend (address, port, protocol) leads to the number of a service-port,
//! that to one 8-byte word, the word to a block of slots with a backend each:
//! first those for clients that may be sent anywhere, then the node's own.
//! A change of backends writes a new block and then the word, so that every
//! client moves at one instant and none ever finds half a change.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use tokio::sync::{oneshot, watch as watch_channel};
use tokio_util::sync::CancellationToken;

mod announce;
mod counters;
mod diff;
mod events;
mod health;
mod hooks;
mod index;
pub mod inspect;
mod loaded;
mod maps;
mod masquerade;
mod metrics;
mod mode;
mod model;
mod netlink;
mod notes;
mod peers;
mod pod_traffic;
mod policy;
mod pressure;
mod programs;
mod proxy;
mod ring;
mod sizes;
mod slots;
mod sweep;
mod sys;
mod tap;
mod trace;
mod wanted;
mod watch;

pub use announce::{ANNOUNCED_BY, Announcer, Uplink, announced, probe::who_has};
pub use diff::{Current, Pointer, ServiceId};
pub use hooks::{AttachedPods, Follow, HeldPods, Hooks, HooksConfig, HooksError, Kind, Pods, Xdp};
pub use index::ObjectName;
pub use loaded::{LoadedProgram, loaded};
pub use maps::MapsError;
pub use masquerade::Masquerade;
pub use mode::LoadBalancerMode;
pub use model::{Backend, Balance, Exposure, Frontend, FrontendError, ServicePort, Target};
pub use pod_traffic::PodTraffic;
pub use pressure::Table;
pub use programs::ProgramsError;
pub use prometheus_client::registry::Registry;
pub use proxy::{Proxy, dump};
pub use sizes::TableSizes;
pub use sweep::{SweepError, Sweeper, Swept};
pub use tap::Tap;
pub use vetch_ebpf_common::{Protocol, SNAT_PORTS};
pub use wanted::OwnService;

#[derive(Clone, Debug)]
pub struct ProxyConfig {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// The cgroup v2 directory the programs are attached at: all processes
    /// below it, pods and the node's own, reach services.
    pub cgroup: PathBuf,
    /// Where maps and links are pinned: a directory of this node alone, on a
    /// bpffs. Its parent must exist or be made on one.
    pub pin_dir: PathBuf,
    /// Serve the Services whose label `service.kubernetes.io/service-proxy-name`
    /// has this value; None serves those without the label.
    pub service_proxy_name: Option<String>,
    /// Names of the links that lead to the network; empty for those that have
    /// a node address or a default route.
    pub uplinks: Vec<String>,
    /// Of the connection tables that are made; those that are pinned keep theirs.
    pub tables: TableSizes,
    /// Source ports for connections whose source is changed; reserved from the
    /// host.
    pub source_ports: RangeInclusive<u16>,
    /// Whether a program is at the uplinks' drivers.
    pub xdp: Xdp,
    /// How clients outside are answered by backends on other nodes.
    pub load_balancer_mode: LoadBalancerMode,
    /// The identifier of the tunnel between nodes (24 bits): what comes in it with
    /// another is not opened.
    pub vxlan_vni: u32,
    /// Whether what pods send out of the cluster goes with the node's address.
    pub masquerade: Masquerade,
    /// Whom pods reach with their own address beside the cluster's pods and nodes.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// Follow TCP connections that are balanced at the socket to their end, for
    /// bytes and latencies by service. Without it they are followed while a
    /// Service balances by live connections.
    pub connection_metrics: bool,
    /// Where `/healthz` and `/livez` are served; kube-proxy's is 0.0.0.0:10256.
    pub healthz_address: Option<SocketAddr>,
    /// Where `/metrics` is served; kube-proxy's is 127.0.0.1:10249.
    pub metrics_address: Option<SocketAddr>,
    /// A Service that this node answers itself.
    pub own_service: Option<OwnService>,
    /// Who hears what is watched here.
    pub tap: Option<Arc<dyn Tap>>,
    /// Where it is written by which rules of admin policies pods are held, for
    /// [`inspect`]; None for nowhere.
    pub policies_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Maps(#[from] MapsError),
    #[error(transparent)]
    Hooks(#[from] HooksError),
    #[error("the thread that loads the programs died")]
    LoaderDied,
    #[error(transparent)]
    Sweep(#[from] SweepError),
}

/// Which tables of the programs are nearly full, in words; `None` when none is.
pub type TablePressure = watch_channel::Sender<Option<String>>;

/// The ports of the node that lead to attached pods, each time anew; `None` until
/// it is known what an earlier daemon attached.
pub type HostPorts = watch_channel::Receiver<Option<Arc<vetch_network::HostPorts>>>;

/// Whose the attached pods are, and who is told which of them can be spoken to.
#[derive(Debug)]
pub struct Guard {
    pub owners: watch_channel::Receiver<Option<Arc<vetch_network::Owners>>>,
    pub guarded: watch_channel::Sender<vetch_network::Guarded>,
}

impl Default for Guard {
    /// Pods are known by the addresses in their status, and nobody waits for them.
    fn default() -> Self {
        Self {
            owners: watch_channel::Sender::default().subscribe(),
            guarded: watch_channel::Sender::default(),
        }
    }
}

/// Serves until `shutdown`; leaves everything in the kernel as it is then.
/// Its threads are in the node's network namespace. `pressure` is told of
/// tables of the programs that are nearly full.
pub async fn run(
    client: kube::Client,
    config: ProxyConfig,
    pods: AttachedPods,
    host_ports: HostPorts,
    guard: Guard,
    pressure: TablePressure,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let maps_dir = programs::maps_dir(&config.pin_dir);
    let tell = watch::Tell {
        health: health::Health::default(),
        metrics: metrics::Metrics::new(
            maps_dir.clone(),
            config.tap.as_deref(),
            Some(metrics::PodCounters {
                pods: pods.clone(),
                owners: guard.owners.clone(),
            }),
        ),
        events: events::Events::new(client.clone(), config.node_name.clone()),
        pressure,
    };
    let healthz = serve(
        "healthz",
        config.healthz_address,
        health::router(tell.health.clone()),
    );
    let metrics = serve(
        "metrics",
        config.metrics_address,
        metrics::router(tell.metrics.clone()),
    );
    let Guard { owners, guarded } = guard;
    let sources = watch::Sources {
        client,
        host_ports,
        owners,
    };
    let opening = open(config.clone(), pods, guarded);
    tokio::select! {
        result = watch::keep_in_step(sources, opening, &config, tell, shutdown) => result,
        never = healthz => match never {},
        never = metrics => match never {},
    }
}

/// Loads the programs on a thread of its own: the verifier takes its time.
async fn open(
    config: ProxyConfig,
    pods: AttachedPods,
    guarded: watch_channel::Sender<vetch_network::Guarded>,
) -> Result<(Proxy, Follow), Error> {
    let load = move || {
        let mut proxy = Proxy::open(&config)?;
        let hooks = Hooks::open(HooksConfig::of(&config), proxy.programs().ebpf())?;
        Ok::<_, Error>((proxy, hooks))
    };
    let (done, loaded) = oneshot::channel();
    // It is nobody's concern any more where the receiver is gone.
    std::thread::spawn(move || drop(done.send(load())));
    let (proxy, hooks) = loaded.await.map_err(|_| Error::LoaderDied)??;
    Ok((proxy, Follow::new(hooks, pods)?.guarding(guarded)))
}

/// Takes programs and maps out of the kernel: for the end of a node, not of a
/// daemon. Calls to services go unanswered from here on. The calling thread is
/// in the node's network namespace.
pub fn remove(pin_dir: &Path) -> Result<(), Error> {
    programs::remove(pin_dir)?;
    Ok(hooks::remove()?)
}

async fn serve(
    what: &'static str,
    address: Option<SocketAddr>,
    router: axum::Router,
) -> Infallible {
    match address {
        Some(address) => health::serve::serve(what, address, router).await,
        None => std::future::pending().await,
    }
}

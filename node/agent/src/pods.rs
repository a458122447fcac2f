//! What the kubelet does for pods.
//!
//! [`run`] watches the pods of one node and keeps a worker for each. A worker
//! observes (the pod, its containers, its probes), decides (`plan`, a pure
//! function) and acts (jobs that run beside it). What is reported back is built
//! by pure functions as well (`status`).
//!
//! | folder | what it is |
//! |---|---|
//! | `manager` | the watch, the workers, orphans of an earlier daemon |
//! | `static_pods` | pods of a manifest folder, and their mirrors |
//! | `worker` | one pod's loop and its jobs |
//! | `plan`, `termination`, `admission`, `backoff`, `restart` | decisions |
//! | `status`, `events` | what the API server is told |
//! | `probe`, `lifecycle` | questions and hooks |
//! | `classes` | the cgroups above pods |
//! | `claims`, `host_path_volumes` | the volumes behind claims, and directories made for them |
//! | `eviction`, `preempt`, `shutdown`, `sentence` | pods that end for the node's sake |
//! | `resize` | other resources for what runs |
//! | `image`, `container`, `sandbox`, `datapath`, `host_ports`, `env`, `security`, `resources`, `etc` | from the spec to what the runtime is asked for |
//! | `volumes`, `sources`, `objects`, `downward` | volumes and what they are made from |

mod addresses;
mod admission;
mod apparmor;
mod backoff;
mod claims;
mod classes;
mod cluster_dns;
mod container;
mod context;
mod datapath;
mod downward;
mod env;
mod ephemeral;
mod etc;
mod events;
mod eviction;
mod host_path_volumes;
mod host_ports;
mod image;
mod lifecycle;
mod manager;
mod objects;
mod own_node;
mod plan;
mod preempt;
mod probe;
mod quantity;
mod resize;
mod resources;
mod restart;
pub(crate) mod runtime_class;
mod sandbox;
mod security;
mod seen;
mod sentence;
mod services;
mod shutdown;
mod sources;
mod spec;
pub(crate) mod static_pods;
mod status;
mod termination;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod text;
mod unsupported;
mod volumes;
mod worker;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use quantity::{nanos as quantity_nanos, value as quantity_value};
pub(crate) use resources::PERIOD as CPU_PERIOD;
pub(crate) use worker::LAST_BACK_OFF;

pub use eviction::EvictionConfig;
#[cfg(test)]
pub use probe::Asked;
pub use probe::ProbeNumbers;
pub use resources::MemoryQos;
pub use shutdown::{Periods, Shutdown};
pub use text::parse_go_duration;

use context::{Context, Shared};
use events::Recorder;
use manager::Manager;
use own_node::OwnNode;
use quantity::ResourceList;
use services::Services;

/// What a node is to its pods.
#[derive(Clone, Debug)]
pub struct PodsConfig {
    pub node_name: String,
    /// The main one first.
    pub node_ips: Vec<IpAddr>,
    /// `<root-dir>/pods`: a directory for each pod's volumes and files.
    pub pod_dir: PathBuf,
    pub pod_log_dir: PathBuf,
    /// A folder of manifests of static pods, or one of them.
    pub pod_manifest_path: Option<PathBuf>,
    /// What a seccomp profile of type Localhost is named from.
    pub seccomp_root: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Whether a process here may have a lower oom_score_adj than its parent.
    pub can_lower_oom_score: bool,
    /// CPU and memory of the node, which its pods have together.
    pub capacity: ResourceList,
    /// How many processes and threads a pod has at most; `None` for no limit.
    pub pod_max_pids: Option<i64>,
    /// How its memory is shared; `None` for limits alone.
    pub memory_qos: Option<MemoryQos>,
    /// cgroup v2 controllers that are missing here (`Runtime::missing_controllers`).
    pub missing_controllers: Vec<String>,
    /// When the node ends pods by itself.
    pub eviction: EvictionConfig,
    /// What pods have of the machine's end.
    pub shutdown: Shutdown,
    /// Where probes count what they found.
    pub probes: ProbeNumbers,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making {path}", path = path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("freeing addresses of sandboxes that are gone")]
    Network(#[source] vetch_network::Error),
    #[error("setting up probes: {0}")]
    Probes(String),
}

/// Runs the node's pods until `shutdown`; they run on then, and the next call
/// finds them. Containers are started as soon as `network_ready` says that the
/// node has addresses to give (those of the node's own network do not wait).
/// Capacity and labels for admission are read from the Node object.
pub async fn run(
    client: kube::Client,
    config: PodsConfig,
    runtime: vetch_runtime::Runtime,
    network: vetch_network::Network,
    network_ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    for path in [&config.pod_dir, &config.pod_log_dir] {
        std::fs::create_dir_all(path).map_err(|source| Error::Directory {
            path: path.clone(),
            source,
        })?;
    }
    let live = runtime.netns_by_sandbox().await;
    network.retain(&live).await.map_err(Error::Network)?;

    let node: Arc<str> = config.node_name.as_str().into();
    let (recorder, record) = Recorder::new(client.clone(), node);
    let (services, follow_services) = Services::new(client.clone());
    let (own_node, follow_node) = OwnNode::new(client.clone(), &config.node_name);
    let _tasks = [
        AbortOnDropHandle::new(tokio::spawn(record)),
        AbortOnDropHandle::new(tokio::spawn(follow_services)),
        AbortOnDropHandle::new(tokio::spawn(follow_node)),
    ];
    let context = Context::new(Shared {
        client,
        config,
        runtime,
        network,
        network_ready,
        recorder,
        services,
        node: own_node,
        http: probe::client().map_err(|error| Error::Probes(error.to_string()))?,
    });
    let _classes = AbortOnDropHandle::new(tokio::spawn(classes::keep(context.clone())));
    let directories = host_path_volumes::keep(context.clone());
    let _directories = AbortOnDropHandle::new(tokio::spawn(directories));
    let _eviction = AbortOnDropHandle::new(tokio::spawn(eviction::keep(context.clone())));
    let _shutdown = AbortOnDropHandle::new(tokio::spawn(shutdown::keep(context.clone())));
    Manager::new(context).await.run(shutdown).await;
    Ok(())
}

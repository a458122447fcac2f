//! The Node object: registered, kept true and alive; and what it and the other
//! nodes mean for the pod network.
//!
//! Input: the machine, the runtime, a watch on the own Node and one on all of
//! them. Output: the Node's status and Lease, `network_ready`, the network's
//! CIDRs and peers.

pub mod boot;
pub mod capacity;
mod cidrs;
mod conditions;
mod error;
pub(crate) mod events;
pub mod image_gc;
mod lease;
pub mod machine;
pub mod meminfo;
mod peers;
pub mod pressure;
mod register;
mod reporter;
mod retry;
mod status;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vetch_network::Network;
use vetch_runtime::Runtime;

use machine::Machine;
use reporter::Reporter;
use retry::Trouble;

pub use error::NodeError;
pub use lease::DURATION_SECONDS as LEASE_SECONDS;
pub use reporter::{OBSERVE_EVERY, REPORT_EVERY};
pub use retry::{chain, limited};

#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub name: String,
    /// One of each family at most, the main one first.
    pub ips: Vec<IpAddr>,
    /// Beside the ones every node has.
    pub labels: BTreeMap<String, String>,
    /// Of a Node that is made.
    pub taints: Vec<Taint>,
    pub kubelet_port: u16,
    /// More are refused.
    pub max_pods: u32,
    /// On the disk whose room counts.
    pub root_dir: PathBuf,
    /// Above all pods; its limits are the node's.
    pub cgroup_root: PathBuf,
    pub machine: Machine,
    /// Which thresholds allocatable follows.
    pub eviction: pressure::Eviction,
    /// Told by who measures.
    pub pressure: watch::Receiver<pressure::Pressure>,
    /// The machine goes down, and takes no more pods.
    pub shutting_down: watch::Receiver<bool>,
    /// Those that may have to go.
    pub images: Arc<image_gc::Collector>,
    /// Which tables of the service programs are nearly full.
    pub table_pressure: watch::Receiver<Option<String>>,
}

/// Until `shutdown`. An API server that is away is waited for.
pub async fn run(
    client: Client,
    config: NodeConfig,
    runtime: Runtime,
    network: Network,
    network_ready: watch::Sender<bool>,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    let work = async {
        let mut reporter = Reporter::new(client.clone(), config.clone(), runtime.clone())?;
        // Static pods do not wait for an API server that may be one of them.
        if cidrs::recall(&config.root_dir, &network).await {
            network_ready.send_replace(true);
        }
        let node = first_registration(&client, &config, &mut reporter).await?;
        reporter.tell_start(&node).await;
        let uid = node.metadata.uid.clone().unwrap_or_default();
        tokio::select! {
            result = reporter.keep(node, &network, &network_ready) => result,
            () = lease::keep(client.clone(), &config.name, &uid) => Ok(()),
            () = peers::follow(client.clone(), &config.name, &network) => Ok(()),
            () = image_gc::keep(client.clone(), &config.name, &config.images) => Ok(()),
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        result = work => result,
    }
}

async fn first_registration(
    client: &Client,
    config: &NodeConfig,
    reporter: &mut Reporter,
) -> Result<Node, NodeError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let labels = register::labels(&config.name, &config.machine.architecture, &config.labels);
    let mut trouble = Trouble::with("register this node");
    loop {
        let status = reporter.wanted(None, Timestamp::now()).await?;
        match register::register(&nodes, &config.name, &labels, &config.taints, &status).await {
            Ok(node) => return Ok(node),
            Err(error) => tokio::time::sleep(trouble.met(&error)).await,
        }
    }
}

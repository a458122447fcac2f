//! How long pods take from created to Ready and to gone, step by step as one watch shows it, and
//! what a node's daemon and supervisors keep in memory.
//!
//! Figures, all better when lower; `mode` is `one-at-a-time` or `N-at-once`, `quantile` p50 or p99
//! over the pods of one round:
//!
//! | measure | unit | from → to |
//! |---|---|---|
//! | `created-ready` | ms | the create is acknowledged → an event shows the condition Ready |
//! | `created-last-ready` | ms | the first create is sent → the last pod is Ready (at once only) |
//! | `step-scheduled` | ms | acknowledged → bound to a node |
//! | `step-sandbox` | ms | → condition PodReadyToStartContainers (Kubernetes ≥ 1.29) |
//! | `step-running` | ms | → every container runs |
//! | `step-ready` | ms | → Ready |
//! | `deleted-gone` | ms | the delete is acknowledged → the event DELETED |
//! | `daemon-memory` | MiB | a vetch-node, `counted` as `rss` or `pss`, with `pods` on its node |
//! | `supervisor-memory` | MiB | the supervisor of one pod, Pss: the mean over the `pods` |
//!
//! An event that overtakes the answer to the request that caused it gives a time below zero; it
//! stays as it is. One event often shows several steps at once: those are 0 ms apart.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

use crate::run::Run;

mod capacity;
pub mod client;
mod manifest;
mod memory;
pub mod namespace;
pub mod process;
mod rounds;
mod sample;
pub mod steps;
pub mod timeline;
mod watch;

use namespace::Namespace;
use rounds::Rounds;

/// What `vetch-bench pods` is asked for.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Each round starts pods one at a time and then all at once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Pods a round, one at a time.
    #[arg(long, default_value_t = 20)]
    pub pods: usize,
    /// Pods a round, all at once (0: none); the cluster must have room for them.
    #[arg(long, default_value_t = 100)]
    pub at_once: usize,
    /// Pods on one node while its daemons' memory is read; empty for none. What does not fit into
    /// the node's allocatable pods (Kubernetes' default: 110) is skipped.
    #[arg(long, value_delimiter = ',', default_value = "0,50,200")]
    pub pods_on_node: Vec<usize>,
    /// The containers' image, never pulled again once a node has it. It must run until SIGTERM.
    #[arg(long, default_value = "vetch.local/echo:v1")]
    pub image: String,
    /// Seconds until what has not happened counts as failed.
    #[arg(long, default_value_t = 120)]
    pub limit: u64,
    /// Whose figures these are [default: vetch for a cluster of this machine, else cluster].
    #[arg(long)]
    pub subject: Option<String>,
}

/// What figures are filed under.
pub fn subject(run: &Run, wanted: Option<&str>) -> String {
    let found = if run.target.local.is_some() {
        "vetch"
    } else {
        "cluster"
    };
    wanted.unwrap_or(found).to_owned()
}

/// Files what was asked for beside the figures.
pub fn note_settings(run: &mut Run, options: &impl Serialize) -> Result<()> {
    let settings: BTreeMap<String, serde_json::Value> =
        serde_json::from_value(serde_json::to_value(options)?)?;
    run.report.settings.extend(settings);
    Ok(())
}

/// Measures into `run.report`. When the run is stopped it returns `Ok` with what is whole by then;
/// its namespace is gone in either case, unless the cluster takes too long over that.
pub async fn run(run: &mut Run, options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds 0 measures nothing");
    note_settings(run, options)?;
    let client = client::single(&run.target.kubeconfig).await?;
    let namespace = Namespace::create(&client, "vetch-bench-pods", &run.stop).await?;
    let measured = measure(run, options, &client, &namespace.name).await;
    let gone = namespace.remove(run).await;
    measured.and(gone)
}

async fn measure(
    run: &mut Run,
    options: &Options,
    client: &kube::Client,
    namespace: &str,
) -> Result<()> {
    let nodes = usable_nodes(client).await?;
    let mut rounds = Rounds::start(run, options, client, namespace).await?;
    rounds.warm(&nodes).await?;
    let node = rounds.node_to_look_into(&nodes);
    for round in 0..options.rounds {
        if rounds.stopped() {
            break;
        }
        rounds.one_at_a_time(round).await?;
        rounds.at_once(round).await?;
        if let Some(node) = &node {
            rounds.memory(round, node).await?;
        }
    }
    Ok(())
}

/// Nodes that a pod without wishes may be put on.
pub async fn usable_nodes(client: &kube::Client) -> Result<Vec<Node>> {
    let api: Api<Node> = Api::all(client.clone());
    let mut nodes = api
        .list(&ListParams::default())
        .await
        .context("list nodes")?
        .items;
    nodes.retain(capacity::usable);
    ensure!(!nodes.is_empty(), "no node is Ready and takes pods");
    Ok(nodes)
}

/// Every pod of the cluster that takes a place on a node.
async fn placed_pods(client: &kube::Client) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::all(client.clone());
    let list = api.list(&ListParams::default()).await;
    Ok(list.context("list the cluster's pods")?.items)
}

//! Keeps the Node's status what is true, and takes the pod network from it.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{error, info, warn};
use vetch_network::Network;
use vetch_runtime::Runtime;

use super::conditions::{Health, changes};
use super::peers::pod_cidrs;
use super::retry::{Trouble, chain, limited};
use super::status::{self, Fixed};
use super::{NodeConfig, NodeError, cidrs, events};

/// The kubelet's nodeStatusUpdateFrequency, and how often room is measured.
pub const OBSERVE_EVERY: Duration = Duration::from_secs(10);
/// Its nodeStatusReportFrequency: how long nothing new may go unsaid.
pub const REPORT_EVERY: Duration = Duration::from_secs(300);

const NO_CIDR: &str = "Network plugin returns error: the node has no podCIDR yet";

pub struct Reporter {
    client: Client,
    config: NodeConfig,
    fixed: Fixed,
    runtime: Runtime,
    missing_controllers: Vec<String>,
    network_problem: Option<String>,
    cidrs: Vec<IpNet>,
}

impl Reporter {
    pub fn new(client: Client, config: NodeConfig, runtime: Runtime) -> Result<Self, NodeError> {
        Ok(Reporter {
            fixed: Fixed {
                name: config.name.clone(),
                ips: config.ips.clone(),
                kubelet_port: config.kubelet_port,
                max_pods: config.max_pods,
                machine: config.machine.clone(),
                eviction: config.eviction.clone(),
                user_namespaces: runtime.user_namespace_problem().is_none(),
            },
            missing_controllers: runtime.missing_controllers(),
            client,
            config,
            runtime,
            network_problem: Some(NO_CIDR.to_owned()),
            cidrs: Vec::new(),
        })
    }

    /// What the status should be now.
    pub async fn wanted(
        &mut self,
        before: Option<&NodeStatus>,
        now: Timestamp,
    ) -> Result<NodeStatus, NodeError> {
        let tables = self.config.table_pressure.borrow().clone();
        let health = Health {
            pressure: *self.config.pressure.borrow(),
            network_problem: self.network_problem.as_deref(),
            shutting_down: *self.config.shutting_down.borrow(),
            missing_controllers: &self.missing_controllers,
            device_problem: self.runtime.device_problem(),
            table_pressure: tables.as_deref(),
        };
        let images = self.runtime.images().list().await;
        Ok(status::build(&self.fixed, &health, &images, before, now))
    }

    /// For ever: on each change of the own Node, and every few seconds.
    pub async fn keep(
        &mut self,
        registered: Node,
        network: &Network,
        network_ready: &watch::Sender<bool>,
    ) -> Result<(), NodeError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let own = format!("metadata.name={}", self.config.name);
        let selected = watcher::Config::default().fields(&own);
        let mut events = pin!(watcher::watcher(nodes.clone(), selected).default_backoff());
        let mut watching = Trouble::with("watch this node's object");
        let mut reporting = Trouble::with("report the status of this node");
        let mut tick = interval(OBSERVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.take_cidrs(&registered, network, network_ready).await;
        let mut pressure = self.config.pressure.clone();
        let mut shutting_down = self.config.shutting_down.clone();
        let mut node = Some(registered);
        let mut reported = Instant::now();
        loop {
            let gone = node.is_none();
            tokio::select! {
                Some(event) = events.next() => match event {
                    // An answer to a patch may be newer than what the watch has come to.
                    Ok(Event::Apply(seen) | Event::InitApply(seen))
                        if node.as_ref().is_some_and(|node| version(&seen) < version(node)) => continue,
                    Ok(Event::Apply(seen) | Event::InitApply(seen)) => {
                        self.take_cidrs(&seen, network, network_ready).await;
                        node = Some(seen);
                    }
                    Ok(Event::Delete(_)) => {
                        error!(node = self.config.name, "its Node object was deleted: restart the daemon to register it again");
                        node = None;
                    }
                    Ok(Event::Init | Event::InitDone) => watching.over(),
                    Err(error) => {
                        watching.met(&error);
                    }
                },
                _ = tick.tick(), if !gone => {}
                // Schedulers are to know at once.
                Ok(()) = pressure.changed(), if !gone => {}
                Ok(()) = shutting_down.changed(), if !gone => {}
            }
            let Some(known) = &node else {
                continue;
            };
            let now = Timestamp::now();
            let before = known.status.clone();
            let wanted = self.wanted(before.as_ref(), now).await?;
            let due = reported.elapsed() >= REPORT_EVERY;
            let Some(patch) = status::patch(before.as_ref(), &wanted, due) else {
                continue;
            };
            let patch = Patch::Strategic(patch);
            let params = PatchParams::default();
            match limited(nodes.patch_status(&self.config.name, &params, &patch)).await {
                Ok(answer) => {
                    reporting.over();
                    reported = Instant::now();
                    self.tell_changes(before.as_ref(), &wanted).await;
                    node = Some(answer);
                }
                // The next tick tries again.
                Err(error) => {
                    reporting.met(&error);
                }
            }
        }
    }

    async fn take_cidrs(&mut self, node: &Node, network: &Network, ready: &watch::Sender<bool>) {
        let cidrs = pod_cidrs(node);
        if cidrs.is_empty() || (cidrs == self.cidrs && self.network_problem.is_none()) {
            return;
        }
        match network.set_pod_cidrs(&cidrs).await {
            Ok(()) => {
                info!(?cidrs, "pod network ready");
                self.network_problem = None;
                cidrs::keep(&self.config.root_dir, &cidrs);
                self.cidrs = cidrs;
                ready.send_replace(true);
            }
            Err(error) => {
                let text = chain(&error);
                warn!(error = text, ?cidrs, "cannot use the node's podCIDRs");
                self.network_problem = Some(format!("Network plugin returns error: {text}"));
            }
        }
    }

    /// The first word about each condition is an event too.
    pub async fn tell_start(&self, node: &Node) {
        events::tell(
            &self.client,
            &self.config.name,
            "Starting",
            "Starting kubelet.".into(),
        )
        .await;
        if let Some(status) = &node.status {
            self.tell_changes(None, status).await;
        }
    }

    async fn tell_changes(&self, before: Option<&NodeStatus>, after: &NodeStatus) {
        let conditions = |status: &NodeStatus| status.conditions.clone().unwrap_or_default();
        let before = before.map(conditions).unwrap_or_default();
        for reason in changes(&before, &conditions(after)) {
            let message = events::status_message(&self.config.name, reason);
            events::tell(&self.client, &self.config.name, reason, message).await;
        }
    }
}

/// Comparable since Kubernetes 1.35; one that is no number is not compared.
fn version(node: &Node) -> Option<u64> {
    node.metadata.resource_version.as_deref()?.parse().ok()
}

//! What daemons keep in memory while more and more pods run on a node.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use vetch_bench_record::{Better, Figure};

use super::capacity;
use super::process::{memory_of, supervisors};
use super::rounds::{Outcome, Rounds};
use crate::target::LocalNode;

/// After the last pod is Ready: status updates and events are through by then.
const SETTLE: Duration = Duration::from_secs(2);

impl Rounds<'_> {
    /// The first node whose processes can be read.
    pub fn node_to_look_into(&mut self, nodes: &[Node]) -> Option<LocalNode> {
        if self.options.pods_on_node.is_empty() {
            return None;
        }
        let Some(local) = &self.run.target.local else {
            self.run.skip(
                "memory of a node's daemon and of its supervisors",
                "the cluster is none of `cargo xtask up` on this machine: its processes cannot be read",
            );
            return None;
        };
        let usable = |name: &str| {
            let mut names = nodes.iter().map(|node| node.metadata.name.as_deref());
            names.any(|usable| usable == Some(name))
        };
        local.nodes.iter().find(|node| usable(&node.name)).cloned()
    }

    /// Fills the node step by step, and empties it.
    pub async fn memory(&mut self, round: usize, node: &LocalNode) -> Result<()> {
        let mut levels = self.options.pods_on_node.clone();
        levels.sort_unstable();
        levels.dedup();
        let mut uids: Vec<String> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for level in levels {
            if self.stopped() {
                return Ok(());
            }
            let what = format!("memory with {level} pods on {}", node.name);
            self.bar.set_message(format!("round {}: {what}", round + 1));
            let room = self.room_on(&node.name).await? + names.len();
            if room < level {
                let why = format!("the node's allocatable pods leave room for {room}");
                self.skip_once(&what, &why);
                self.bar.inc(1);
                continue;
            }
            let pods: Vec<Pod> = (names.len()..level)
                .map(|index| self.pod(&format!("mem-{round}-{index}"), Some(&node.name)))
                .collect();
            match self.ready(&pods).await? {
                Outcome::Whole(started) => {
                    for (name, (_, uid)) in started.created {
                        names.push(name);
                        uids.push(uid);
                    }
                }
                Outcome::Failed(why) => {
                    self.failed(&format!("{what}, round {}", round + 1), &why);
                    return self.clear().await;
                }
                Outcome::Stopped => return Ok(()),
            }
            if !self.run.pause(SETTLE).await {
                return Ok(());
            }
            self.read(round, node, &uids);
            self.bar.inc(1);
        }
        match self.gone(&names).await? {
            Outcome::Failed(why) => {
                self.failed(&format!("pods' end, round {}", round + 1), &why);
                self.clear().await
            }
            Outcome::Whole(_) | Outcome::Stopped => Ok(()),
        }
    }

    fn read(&mut self, round: usize, node: &LocalNode, uids: &[String]) {
        let mebibytes = |measure: &str, subject: &str, counted: &str| {
            Figure::new(measure, subject, "MiB", Better::Lower)
                .with("pods", uids.len())
                .with("counted", counted)
        };
        let daemon = memory_of(&node.pids).context("the node's daemon");
        for (counted, mib) in [
            ("rss", daemon.as_ref().ok().map(|memory| memory.rss_mib())),
            ("pss", daemon.as_ref().ok().map(|memory| memory.pss_mib())),
        ] {
            let figure = mebibytes("daemon-memory", &self.subject, counted);
            self.run.add(figure, round, mib);
        }
        let supervisors = mean_supervisor(node, uids);
        if !uids.is_empty() {
            let figure = mebibytes("supervisor-memory", &self.subject, "pss");
            self.run
                .add(figure, round, supervisors.as_ref().ok().copied());
        }
        for error in [daemon.err(), supervisors.err()].into_iter().flatten() {
            let what = format!("memory with {} pods, round {}", uids.len(), round + 1);
            self.failed(&what, &format!("{error:#}"));
        }
    }

    async fn room_on(&self, name: &str) -> Result<usize> {
        let nodes = super::usable_nodes(&self.client).await?;
        let placed = super::placed_pods(&self.client).await?;
        let node = nodes
            .iter()
            .find(|node| node.metadata.name.as_deref() == Some(name));
        Ok(node.map_or(0, |node| capacity::room(node, &placed)))
    }
}

/// MiB of Pss a pod.
fn mean_supervisor(node: &LocalNode, uids: &[String]) -> Result<f64> {
    let mut sum = 0.0;
    for uid in uids {
        let pids = supervisors(&node.cgroup, uid).context("read the pod's cgroup")?;
        let memory = memory_of(&pids).with_context(|| format!("the supervisor of pod {uid}"))?;
        sum += memory.pss_mib();
    }
    Ok(sum / uids.len().max(1) as f64)
}

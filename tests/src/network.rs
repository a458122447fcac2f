//! The network of a node in namespaces, or of one of its pods, entered by this process: what is opened there stays there.
//! And the one between the nodes, where links can be lost.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::cluster::{Cluster, Node, Place};

/// Two nodes that do not reach each other, and still everybody else, for as long as the value lives.
#[derive(Debug)]
pub struct Apart<'a> {
    cluster: &'a Cluster,
    nodes: [&'a Node; 2],
}

impl Cluster {
    /// `ip` of iproute2 in the network between nodes in namespaces: a bridge `br0` with a port of each node's name.
    pub fn hub(&self, arguments: &str) -> Result<String> {
        let hub = self.hub.as_ref();
        let hub = hub.context("what is between machines of their own is not ours to change")?;
        let output = std::process::Command::new("nsenter")
            .arg(format!("--net={}", hub.netns.display()))
            .arg("ip")
            .args(arguments.split(' '))
            .output()
            .context("run nsenter")?;
        ensure!(
            output.status.success(),
            "ip {arguments} between the nodes: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Takes the link between two nodes away: the bridge sends nothing from one isolated port to another.
    pub fn part<'a>(&'a self, one: &'a Node, other: &'a Node) -> Result<Apart<'a>> {
        let apart = Apart {
            cluster: self,
            nodes: [one, other],
        };
        apart.isolated("on")?;
        Ok(apart)
    }
}

impl Apart<'_> {
    fn isolated(&self, word: &str) -> Result<()> {
        for node in self.nodes {
            let port = format!(
                "link set dev {} type bridge_slave isolated {word}",
                node.name
            );
            self.cluster.hub(&port)?;
        }
        Ok(())
    }

    /// The link is there again.
    pub fn join(self) -> Result<()> {
        self.isolated("off")
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        let _ = self.isolated("off");
    }
}

impl Node {
    /// Runs `job` on a thread of its own in the network of the node, or of the container that it stands for.
    pub fn in_network<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.netns()?;
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter {}", path.display()))?;
                Ok(job())
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn netns(&self) -> Result<PathBuf> {
        let Place::Namespaces { netns, .. } = &self.place else {
            bail!("the network of {} is another machine's", self.name);
        };
        let Some(container) = &self.container else {
            return Ok(netns.clone());
        };
        let pids = self.container_pids(&container.pod_uid, &container.id)?;
        let pid = pids.first().context("the container has no process")?;
        Ok(format!("/proc/{pid}/ns/net").into())
    }
}

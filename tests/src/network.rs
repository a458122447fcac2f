//! The network of a node in namespaces, or of one of its pods, entered by this process: what is opened there stays there.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::cluster::{Node, Place};

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

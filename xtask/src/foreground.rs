//! `up` in the foreground: the logs, until Ctrl-C or until the cluster is taken down from elsewhere.

use std::os::fd::AsFd as _;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::down;
use crate::logs::{Follower, Start};
use crate::service::{Part, parts};
use crate::signals::{Signals, Woken};
use crate::state::State;

pub fn run(cluster: &Cluster, state: &State) -> Result<()> {
    let signals = Signals::hold()?;
    let parts = parts(state);
    let mut follower = Follower::new(cluster, &parts, Start::End)?;
    for part in &parts {
        // Tells of the last process that ends: Documentation/admin-guide/cgroup-v2.rst.
        follower.watch(&cluster.leaf(part).path().join("cgroup.events"))?;
    }
    let mut running: Vec<(Part, bool)> = parts.into_iter().map(|part| (part, true)).collect();
    loop {
        match signals.wait(follower.as_fd())? {
            Woken::Signal(caught) => {
                eprintln!(
                    "\n{}: taking the cluster down; its data stays",
                    caught.signal
                );
                return down::run(cluster, false);
            }
            Woken::Ready => {
                follower.drain_events();
                follower.print_new()?;
            }
        }
        if !cluster.cgroup.path().exists() {
            eprintln!("cluster {} was taken down", cluster.name);
            return Ok(());
        }
        for (part, ran) in &mut running {
            let runs = cluster.runs(part);
            if *ran && !runs {
                eprintln!(
                    "{part} ended: `cargo xtask up --name {}` in another terminal heals the cluster",
                    cluster.name
                );
            }
            if runs && !*ran {
                // A start makes the leaf anew.
                follower.watch(&cluster.leaf(part).path().join("cgroup.events"))?;
            }
            *ran = runs;
        }
    }
}

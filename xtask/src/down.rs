//! `down`: nothing of the cluster is left on this machine, whatever state it was in.
//!
//! All that is looked for is found by the cluster's name, on the machine itself: also where its data
//! and its daemons are gone.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bpf::Objects;
use crate::cluster::Cluster;
use crate::service::{self, Part};
use crate::state::State;
use crate::steps::Steps;
use crate::{inventory, mounts, network, paths};

const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(cluster: &Cluster, fresh: bool) -> Result<()> {
    let _lock = cluster.lock()?;
    cluster.refuse_foreign()?;
    let what = format!("Take the cluster {} down", cluster.name);
    Steps::new().run(&what, |_| everything(cluster, fresh))
}

/// The caller holds the cluster's lock.
pub fn everything(cluster: &Cluster, fresh: bool) -> Result<()> {
    // A state that cannot be read keeps nobody from cleaning up.
    let state = State::load(&cluster.paths.state()).ok().flatten();
    let objects = inventory::own_objects(cluster)?;
    if let Some(state) = &state {
        stop_gently(cluster, state);
    }
    kill_everything(cluster)?;
    network::remove(
        &cluster.name,
        state.as_ref().map(|state| state.link.as_str()),
    )?;
    mounts::detach_below(&cluster.paths.run, |_| false)?;
    cluster.cgroup.remove()?;
    remove_all(&cluster.paths.run)?;
    for shared in [
        std::path::Path::new(paths::RUN),
        cluster
            .cgroup
            .path()
            .parent()
            .unwrap_or(cluster.cgroup.path()),
    ] {
        // The last cluster takes what all shared.
        let _ = fs::remove_dir(shared);
    }
    wait_freed(&objects)?;
    if fresh {
        remove_all(&cluster.paths.data)?;
    } else if let Some(state) = &state {
        cluster.describe(state)?;
    }
    Ok(())
}

/// The control plane and etcd end by themselves, so that the last writes are on disk; whether they
/// do is of no matter to what comes next.
fn stop_gently(cluster: &Cluster, state: &State) {
    for part in service::parts(state) {
        for pid in cluster.leaf(&part).pids() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    for part in [Part::Control, Part::Etcd] {
        let _ = cluster.leaf(&part).wait_empty(Duration::from_secs(3));
    }
}

pub fn kill_all(cluster: &Cluster) -> Result<()> {
    let _lock = cluster.lock()?;
    cluster.refuse_foreign()?;
    kill_everything(cluster)
}

fn kill_everything(cluster: &Cluster) -> Result<()> {
    cluster.cgroup.kill()?;
    for pid in inventory::strays(cluster) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    if !cluster.cgroup.wait_empty(PATIENCE)? {
        let left: Vec<i32> = cluster
            .cgroup
            .subtree()
            .iter()
            .flat_map(|cgroup| cgroup.pids())
            .collect();
        bail!(
            "processes are still there {} s after SIGKILL: pids {left:?}",
            PATIENCE.as_secs()
        );
    }
    let deadline = Instant::now() + PATIENCE;
    while !inventory::strays(cluster).is_empty() {
        if Instant::now() > deadline {
            bail!(
                "processes outside the cluster's cgroup do not end: pids {:?}",
                inventory::strays(cluster)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One node that is no longer wanted.
pub fn node(cluster: &Cluster, name: &str) -> Result<()> {
    let paths = cluster.paths.node(name);
    let cgroup = cluster.cgroup.child(name);
    cgroup.kill()?;
    if !cgroup.wait_empty(PATIENCE)? {
        bail!(
            "processes of {name} are still there {} s after SIGKILL",
            PATIENCE.as_secs()
        );
    }
    if crate::namespaces::is_bound(&cluster.paths.hub_netns()) {
        network::remove_node(cluster, name)?;
    }
    let run = cluster.paths.run.join(name);
    mounts::detach_below(&run, |_| false)?;
    cgroup.remove()?;
    for dir in [&run, &paths.root, &paths.pod_logs] {
        remove_all(dir)?;
    }
    for file in [&paths.imported, &paths.kubeconfig] {
        let _ = fs::remove_file(file);
    }
    Ok(())
}

/// A socket holds the programs of the cgroup it was made in, and one without a process lasts as long as
/// it waits for the other side's end (60 s: tcp_fin_timeout in tcp(7)) or sends its last bytes to
/// nobody (tcp_orphan_retries: eight times, at twice the distance each, 102 s from 200 ms on).
const SOCKETS_LAST: Duration = Duration::from_secs(150);

/// The kernel frees programs and maps some time after the last holder has gone.
fn wait_freed(objects: &Objects) -> Result<()> {
    let deadline = Instant::now() + SOCKETS_LAST;
    loop {
        let left = objects.still_there()?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "BPF objects are still there after {} s: {left:?}",
                SOCKETS_LAST.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn remove_all(path: &std::path::Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir_all(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // The last mount namespace with something mounted there is on its way out.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error).with_context(|| format!("remove {}", path.display())),
        }
    }
}

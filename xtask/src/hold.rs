//! The process that makes namespaces: single-threaded, so that it may, and alive until they are bound.
//!
//! Every node's mount namespace has file systems of the node's own at the usual places: cgroup v2
//! rooted at the node's cgroup, whatever the machine has there, and a BPF file system for its pins.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};

use crate::cgroup::Cgroup;
use crate::{mounts, paths};

/// Where the node's daemon finds its cgroups: on machines with both versions, the v1 mounts are below.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
pub const BPF_ROOT: &str = "/sys/fs/bpf";
/// What it prints once the namespaces are there.
pub const READY: &str = "ready";

#[derive(Debug, Default, Args)]
pub struct HoldArgs {
    /// A new network namespace.
    #[arg(long)]
    pub net: bool,
    /// A new UTS namespace of this host name.
    #[arg(long)]
    pub hostname: Option<String>,
    /// A new cgroup namespace rooted at this cgroup.
    #[arg(long)]
    pub cgroup: Option<PathBuf>,
    /// The cgroup namespace that a new mount namespace shows, when it is no new one.
    #[arg(long)]
    pub join_cgroup: Option<PathBuf>,
    /// A new mount namespace that keeps of all below /run/vetch only this cluster's directory and
    /// the machine's network namespace in it.
    #[arg(long)]
    pub mounts: Option<PathBuf>,
}

pub fn run(args: &HoldArgs) -> Result<()> {
    if let Some(cgroup) = &args.cgroup {
        Cgroup::at(cgroup).enter()?;
        unshare(CloneFlags::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    }
    if let Some(path) = &args.join_cgroup {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWCGROUP)
            .with_context(|| format!("enter {}", path.display()))?;
    }
    if args.net {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
    }
    if let Some(name) = &args.hostname {
        unshare(CloneFlags::CLONE_NEWUTS).context("make a UTS namespace")?;
        nix::unistd::sethostname(name).with_context(|| format!("set the host name {name}"))?;
    }
    if let Some(keep) = &args.mounts {
        unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
        node_mounts(keep)?;
    }
    let mut out = std::io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()?;
    // Until xtask has bound them, or is gone.
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}

fn node_mounts(keep: &Path) -> Result<()> {
    // What the machine mounts later is seen; what the node mounts stays the node's.
    mounts::propagate(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SLAVE)?;
    // Copies would keep other clusters' namespaces alive after their `down`.
    let machine = keep.join(paths::MACHINE_NETNS);
    mounts::detach_below(Path::new(paths::RUN), |mount| {
        mount.point == keep || mount.point == machine
    })?;
    mounts::new("cgroup2", Path::new(CGROUP_ROOT), "")?;
    mounts::new("bpf", Path::new(BPF_ROOT), "mode=700")
}

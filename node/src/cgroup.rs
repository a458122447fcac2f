//! The daemon's own place in the node's cgroup, and the end of its pods'.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Below `root`, where the daemon goes when it stands in `root` itself.
pub const DAEMON: &str = "daemon";
/// Below `root`: all pods.
pub const PODS: &str = "kubepods";

/// A cgroup with processes of its own cannot hand controllers to its children,
/// except the machine's root.
pub fn leave_root(root: &Path) -> Result<()> {
    let is_machines_root = !root.join("cgroup.type").exists();
    if is_machines_root || !holds(root, std::process::id())? {
        return Ok(());
    }
    let leaf = root.join(DAEMON);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("make cgroup {}", leaf.display()));
        }
        _ => {}
    }
    fs::write(leaf.join("cgroup.procs"), "0")
        .with_context(|| format!("enter cgroup {}", leaf.display()))
}

fn holds(cgroup: &Path, pid: u32) -> Result<bool> {
    let path = cgroup.join("cgroup.procs");
    let procs = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(procs.lines().any(|line| line.parse() == Ok(pid)))
}

/// SIGKILL to all in and below `cgroup`, which is gone then.
pub fn end(cgroup: &Path, limit: Duration) -> Result<()> {
    match fs::write(cgroup.join("cgroup.kill"), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        written => written.with_context(|| format!("kill cgroup {}", cgroup.display()))?,
    }
    ensure!(
        wait_empty(cgroup, limit)?,
        "processes in {} outlive SIGKILL",
        cgroup.display()
    );
    remove(cgroup)
}

fn wait_empty(cgroup: &Path, limit: Duration) -> Result<bool> {
    let path = cgroup.join("cgroup.events");
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let deadline = Instant::now() + limit;
    loop {
        let events = fs::read_to_string(&path).unwrap_or_default();
        if !events.lines().any(|line| line == "populated 1") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // A change is told as an exceptional condition. Between the read and
        // this one may have been, so do not sleep long.
        let pause = left.min(Duration::from_millis(100));
        let pause = Timespec::try_from(pause).context("wait")?;
        poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&pause)).context("wait")?;
    }
}

/// Children first.
fn remove(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove cgroup {}", cgroup.display()))
        }
        _ => Ok(()),
    }
}

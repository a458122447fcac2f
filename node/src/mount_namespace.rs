//! A mount namespace that outlives the daemon: bound to a file, like those of
//! `ip netns`. What is mounted in it (pins, volumes) is there for the next
//! daemon, and goes when the file is unmounted and the last process has ended.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

use crate::{filesystems, mount_table};

/// Moves the calling thread in, which must be the only one of the process:
/// threads that start later are inside too.
pub fn enter(path: &Path) -> Result<()> {
    if !filesystems::is_namespace(path) {
        make(path).with_context(|| format!("make a mount namespace at {}", path.display()))?;
    }
    join(path)
}

/// Moves only the calling thread in.
pub fn enter_thread(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_FS).context("leave the directories of the other threads")?;
    join(path)
}

fn join(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("enter the mount namespace {}", path.display()))
}

/// The kernel lets a mount namespace be bound only from an older one. It tells
/// by numbers that each CPU hands out from a stock of its own (Linux 6.18), so
/// a new one may pass for the older: not on the CPU that made ours.
fn make(path: &Path) -> Result<()> {
    let parent = path.parent().context("it has no directory")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    make_private(parent)?;
    File::create(path)?;

    let allowed = sched_getaffinity(None).context("read the CPUs of this thread")?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let mut outcome = Err(anyhow!("no CPU to make it on"));
    for cpu in std::iter::once(None).chain(cpus.map(Some)) {
        outcome = make_on(cpu, path);
        match &outcome {
            Err(error) if error.downcast_ref() == Some(&Errno::INVAL) => {}
            _ => break,
        }
    }
    outcome
}

/// A thread makes it and this one, still outside, binds it. A namespace that
/// is bound is whole: killed before that, the next daemon makes another.
fn make_on(cpu: Option<usize>, path: &Path) -> Result<()> {
    let (made, is_made) = mpsc::channel();
    let (bound, is_bound) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let maker = scope.spawn(move || -> Result<()> {
            if let Some(cpu) = cpu {
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).context("move to another CPU")?;
            }
            unshare(CloneFlags::CLONE_NEWNS).context("unshare the mounts")?;
            // What the machine mounts later is seen; what the node mounts stays the node's.
            mount_change(
                "/",
                MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
            )
            .context("make all mounts slaves")?;
            // Ends when the other side has gone on, whatever came of it.
            if made.send(gettid()).is_ok() {
                let _ = is_bound.recv();
            }
            Ok(())
        });
        let binding = match is_made.recv() {
            Ok(thread) => {
                let namespace = format!("/proc/self/task/{}/ns/mnt", thread.as_raw_nonzero());
                mount_bind(namespace, path).context("bind it")
            }
            // It says below what went wrong.
            Err(_) => Ok(()),
        };
        drop(bound);
        match maker.join() {
            Ok(made) => made.and(binding),
            Err(_) => Err(anyhow!("the thread that makes it died")),
        }
    })
}

/// The kernel refuses to bind a mount namespace where it would appear in
/// others as well.
fn make_private(dir: &Path) -> Result<()> {
    if !mount_table::holding(dir)?.shared {
        return Ok(());
    }
    mount_bind(dir, dir).with_context(|| format!("bind {} to itself", dir.display()))?;
    mount_change(dir, MountPropagationFlags::PRIVATE)
        .with_context(|| format!("make {} private", dir.display()))
}

#[cfg(test)]
mod tests;

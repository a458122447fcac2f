//! File systems a node needs where it looks for them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// linux/magic.h.
const CGROUP2: i64 = 0x6367_7270;
const BPF: i64 = 0xcafe_4a11;
const NSFS: i64 = 0x6e73_6673;

/// Whether cgroup v2 is at `root`.
pub fn has_cgroup2(root: &Path) -> bool {
    is(root, CGROUP2)
}

/// Whether `pin_dir` is, or would be made, on a bpffs.
pub fn has_bpffs(pin_dir: &Path) -> bool {
    let existing = pin_dir.ancestors().find(|path| path.exists());
    existing.is_some_and(|path| is(path, BPF))
}

/// Whether a namespace is bound at `path`.
pub fn is_namespace(path: &Path) -> bool {
    is(path, NSFS)
}

fn is(path: &Path, magic: i64) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == magic)
}

/// Mounts what is missing. For a mount namespace of the node's own.
pub fn complete(cgroup_root: &Path, pin_dir: &Path) -> Result<()> {
    if !has_cgroup2(cgroup_root) {
        new("cgroup2", cgroup_root)
            .context("this kernel may have no cgroup v2: a node needs CONFIG_CGROUPS")?;
    }
    if !has_bpffs(pin_dir) {
        let parent = pin_dir.parent().unwrap_or(pin_dir);
        new("bpf", parent)
            .context("this kernel may have no bpffs: a node needs CONFIG_BPF_SYSCALL")?;
    }
    Ok(())
}

fn new(kind: &str, at: &Path) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("make {}", at.display()))?;
    mount(kind, at, kind, MountFlags::empty(), None)
        .with_context(|| format!("mount {kind} at {}", at.display()))
}

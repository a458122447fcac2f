//! Namespaces that outlive processes: bound to files.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, statfs};

use crate::hold::READY;
use crate::mounts::{self, Mount};
use crate::paths::NodePaths;
use crate::process;

/// Magic of the file system that namespaces are files of: linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);

/// Is a namespace bound here?
pub fn is_bound(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS)
}

/// The cluster's run-time directory: a tmpfs, so that one unmount ends everything in it.
pub fn run_directory(run: &Path) -> Result<()> {
    fs::create_dir_all(run).with_context(|| format!("create {}", run.display()))?;
    if is_mounted(run)? {
        return Ok(());
    }
    mounts::new("tmpfs", run, "mode=755")?;
    // Copies of it in other mount namespaces follow when something here is unmounted.
    mounts::propagate(run, MsFlags::MS_SHARED)
}

fn is_mounted(point: &Path) -> Result<bool> {
    Ok(Mount::all("self")?.iter().any(|mount| mount.point == point))
}

/// The namespace that this program is in, for daemons that are not: /proc/1 may be closed to them,
/// and need not be in the same one.
pub fn machine(netns: &Path) -> Result<()> {
    if is_bound(netns) {
        return Ok(());
    }
    bind(std::process::id(), &[("net", netns.to_owned())])
}

/// A network namespace without anything else: the hub, in which the bridge is.
pub fn hub(netns: &Path) -> Result<()> {
    if is_bound(netns) {
        return Ok(());
    }
    make(&["--net".into()], &[("net", netns.to_owned())])
}

/// The namespaces of a node that are not there.
pub fn node(name: &str, paths: &NodePaths, cluster_run: &Path) -> Result<()> {
    let mut arguments: Vec<String> = Vec::new();
    let mut bindings = Vec::new();
    let cgroup = paths.namespace("cgroup");
    let new_cgroup = !is_bound(&cgroup);
    if new_cgroup {
        arguments.extend(["--cgroup".into(), paths.cgroup.display().to_string()]);
        bindings.push(("cgroup", cgroup.clone()));
    }
    for (kind, flag) in [
        ("net", "--net".to_owned()),
        ("uts", format!("--hostname={name}")),
    ] {
        let path = paths.namespace(kind);
        if !is_bound(&path) {
            arguments.push(flag);
            bindings.push((kind, path));
        }
    }
    // Its cgroup mount belongs to one cgroup namespace.
    if new_cgroup || !is_bound(&paths.mount_namespace) {
        let private = paths.mount_namespace.parent().unwrap_or(&paths.run);
        fs::create_dir_all(private).with_context(|| format!("create {}", private.display()))?;
        if !is_mounted(private)? {
            mounts::new("tmpfs", private, "mode=755")?;
            mounts::propagate(private, MsFlags::MS_PRIVATE)?;
        }
        if !new_cgroup {
            arguments.extend(["--join-cgroup".into(), cgroup.display().to_string()]);
        }
        arguments.extend(["--mounts".into(), cluster_run.display().to_string()]);
        bindings.push(("mnt", paths.mount_namespace.clone()));
    }
    if bindings.is_empty() {
        return Ok(());
    }
    make(&arguments, &bindings).with_context(|| format!("make the namespaces of {name}"))
}

fn make(arguments: &[String], bindings: &[(&str, PathBuf)]) -> Result<()> {
    let mut holder = process::own_command()
        .arg("hold")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the holder of namespaces")?;
    let mut line = String::new();
    if let Some(out) = holder.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let bound = if line.trim() == READY {
        bind(holder.id(), bindings)
    } else {
        Ok(())
    };
    drop(holder.stdin.take());
    let output = holder.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    bound
}

fn bind(pid: u32, bindings: &[(&str, PathBuf)]) -> Result<()> {
    for (kind, path) in bindings {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        }
        mounts::detach_below(path, |_| false)?;
        File::create(path).with_context(|| format!("create {}", path.display()))?;
        mounts::bind(Path::new(&format!("/proc/{pid}/ns/{kind}")), path)?;
    }
    Ok(())
}

//! `vetch-node cleanup`: the end of a node, not of a daemon.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::mount::{UnmountFlags, unmount};

use crate::cli::{CleanupArgs, Places};
use crate::{cgroup, check, daemon, filesystems, mount_namespace, mount_table};

const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Every step may find its work done: it is run again after a failure.
pub fn main(args: &CleanupArgs) -> Result<()> {
    check::root()?;
    let dirs = doomed(args)?;
    let places = &args.places;
    let _lock =
        daemon::lock(&places.run_dir).context("a node is cleaned up when its daemon is stopped")?;
    let namespace = daemon::namespace_path(places);
    if filesystems::is_namespace(&namespace) {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                mount_namespace::enter_thread(&namespace)?;
                end_inside(places, &dirs)
            });
            inside
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the thread inside the namespace died")))
        })?;
    } else {
        end_inside(places, &dirs)?;
    }
    // Also the namespace's own file.
    unmount_below(&dirs)?;
    for dir in &dirs {
        remove(dir, args.keep_images && *dir == places.root_dir)?;
    }
    if let Some(logs) = &args.pod_log_dir {
        remove(logs, false)?;
    }
    Ok(())
}

/// What is deleted whole, so it had better be a node's.
fn doomed(args: &CleanupArgs) -> Result<Vec<PathBuf>> {
    let given = [
        Some(&args.places.run_dir),
        Some(&args.places.root_dir),
        args.pod_log_dir.as_ref(),
    ];
    for dir in given.into_iter().flatten() {
        ensure!(
            dir.is_absolute() && dir.components().count() > 2,
            "{} is no directory of a node: it is not removed",
            dir.display()
        );
    }
    Ok(vec![
        args.places.run_dir.clone(),
        args.places.root_dir.clone(),
    ])
}

/// Where the daemon lived.
fn end_inside(places: &Places, dirs: &[PathBuf]) -> Result<()> {
    if filesystems::has_cgroup2(&places.cgroup_root) {
        cgroup::end(&places.cgroup_root.join(cgroup::PODS), KILL_LIMIT)?;
        // Only when no daemon is in it.
        let _ = fs::remove_dir(places.cgroup_root.join(cgroup::DAEMON));
    }
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    tokio
        .block_on(vetch_network::remove_all(&daemon::network_dir(places)))
        .context("remove the pods' links and routes")?;
    vetch_proxy::remove(&places.pin_dir).context("remove the eBPF maps and links")?;
    unmount_below(dirs)
}

fn unmount_below(dirs: &[PathBuf]) -> Result<()> {
    let below = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir) && path != dir);
    for mount in mount_table::all()?.iter().rev() {
        if !below(&mount.point) {
            continue;
        }
        match unmount(&mount.point, UnmountFlags::DETACH) {
            // Gone with one above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("unmount {}", mount.point.display()));
            }
        }
    }
    // Nothing of others is deleted through a mount that stayed.
    let left = mount_table::all()?
        .into_iter()
        .find(|mount| below(&mount.point));
    match left {
        Some(mount) => Err(anyhow!(
            "{} is still mounted: unmount it first",
            mount.point.display()
        )),
        None => Ok(()),
    }
}

/// Also the directory itself, unless something is mounted there.
fn remove(dir: &Path, keep_images: bool) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        if keep_images && entry.file_name() == "images" {
            continue;
        }
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("remove {}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> CleanupArgs {
        let cli = Cli::try_parse_from([&["vetch-node", "cleanup"], more].concat()).unwrap();
        match cli.command {
            Some(Command::Cleanup(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn whole_machines_are_not_removed() {
        assert!(doomed(&args(&[])).is_ok());
        for more in [
            ["--root-dir", "/"],
            ["--root-dir", "/var"],
            ["--run-dir", "run/vetch"],
            ["--pod-log-dir", "/var"],
        ] {
            let error = doomed(&args(&more)).unwrap_err().to_string();
            assert!(error.contains("not removed"), "{error}");
        }
    }

    #[test]
    fn images_may_stay() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        for made in ["images/layers", "containers/x", "pods"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        fs::write(root.join("file"), "").unwrap();
        remove(&root, true).unwrap();
        let left: Vec<_> = fs::read_dir(&root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["images"]);
        remove(&root, false).unwrap();
        assert!(!root.exists());
        remove(&root, false).unwrap();
    }
}

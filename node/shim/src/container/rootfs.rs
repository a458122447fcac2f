//! The root file system: layers under one writable directory, entered with
//! pivot_root. All but the sources of bind mounts is done after that, where
//! every path, whatever symlinks an image has, stays in the container.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use vetch_shim::protocol::Bundle;

use super::{filesystems, mounts};
use crate::failure::{Context, Failure};
use crate::sys;

pub fn enter(bundle: &Bundle, target: &Path, shm: &Path) -> Result<(), Failure> {
    let binds = bundle
        .mounts
        .iter()
        .map(|mount| mounts::prepare_bind(mount, bundle.opens_nodes()))
        .collect::<Result<Vec<_>, _>>()?;
    let devices = filesystems::take_devices(bundle.privileged)?;
    let shm = mounts::clone_tree(shm)?;

    // From here on no mount reaches the host. The copies above were taken
    // while they were still the host's peers.
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context(|| "mount propagation".into())?;
    mount_overlay(bundle, target)?;
    pivot(target)?;

    filesystems::mount_all(bundle, devices, &shm)?;
    for (bind, tree) in bundle.mounts.iter().zip(&binds) {
        mounts::attach_at(tree, &bind.target)?;
    }
    mounts::make_dir(Path::new(&bundle.cwd))?;
    for path in &bundle.readonly_paths {
        mounts::read_only(Path::new(path))?;
    }
    for path in &bundle.masked_paths {
        mounts::mask(Path::new(path))?;
    }
    if bundle.readonly_rootfs {
        let root = open_path(Path::new("/"))?;
        sys::mount_setattr(&root, false, libc::MOUNT_ATTR_RDONLY, 0)
            .context(|| "making the root file system read-only".into())?;
    }
    Ok(())
}

/// Layers are named by descriptor: mount(2) takes one page of options, which
/// a deep image's real paths would not fit in. `volatile` (5.10+), since no
/// writable directory is mounted a second time: without it each container that
/// ends would wait until the whole file system of the node is synced.
fn mount_overlay(bundle: &Bundle, target: &Path) -> Result<(), Failure> {
    let lower = bundle
        .lower
        .iter()
        .map(|path| open_path(path))
        .collect::<Result<Vec<_>, _>>()?;
    let upper = open_path(&bundle.upper)?;
    let work = open_path(&bundle.work)?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let options = format!(
        "volatile,lowerdir={},upperdir={},workdir={}",
        lower.iter().map(name).collect::<Vec<_>>().join(":"),
        name(&upper),
        name(&work),
    );
    let options = std::ffi::CString::new(options)
        .map_err(|_| Failure("overlay options hold a zero byte".into()))?;
    let flags = if bundle.opens_nodes() {
        MountFlags::empty()
    } else {
        MountFlags::NODEV
    };
    mount("overlay", target, "overlay", flags, options.as_c_str())
        .context(|| format!("overlay of {} layers", lower.len()))
}

fn open_path(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(|| format!("opening {}", path.display()))
}

/// The old root ends up on top of the new one and is taken off from there:
/// no directory for it is needed in the image.
fn pivot(target: &Path) -> Result<(), Failure> {
    let step = || "pivot_root".to_owned();
    rustix::process::chdir(target).context(step)?;
    rustix::process::pivot_root(".", ".").context(step)?;
    unmount(".", UnmountFlags::DETACH).context(step)?;
    rustix::process::chdir("/").context(step)
}

//! Layers as one tree: overlayfs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use super::mounts;
use crate::failure::{Context, Failure};
use crate::users::Users;

/// Where what is written goes; both on the same file system.
pub struct Writable<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// Topmost layer first; without a writable directory the kernel wants two of
/// them, and lets nobody write.
///
/// Layers are named by descriptor: mount(2) takes one page of options, which
/// a deep image's real paths would not fit in. `volatile` (5.10+), since no
/// writable directory is mounted a second time: without it each container that
/// ends would wait until the whole file system of the node is synced.
///
/// With a user namespace layers are idmapped (5.19+), and for that mounted at
/// `target` below the overlay, which before 6.15 takes no layer that is mounted
/// nowhere; they stay there.
pub fn mount_at(
    target: &Path,
    lower: &[PathBuf],
    writable: Option<Writable<'_>>,
    flags: MountFlags,
    users: Option<&Users>,
) -> Result<(), Failure> {
    let layers = lower
        .iter()
        .map(|path| match users {
            Some(users) => {
                let layer = mounts::clone_tree(path)?;
                mounts::idmap(&layer, path, users)?;
                mounts::attach(&layer, target)?;
                Ok(layer)
            }
            None => open_path(path),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut options = format!(
        "lowerdir={}",
        layers.iter().map(name).collect::<Vec<_>>().join(":")
    );
    let writable = match writable {
        Some(Writable { upper, work }) => Some((open_path(upper)?, open_path(work)?)),
        None => None,
    };
    if let Some((upper, work)) = &writable {
        let (upper, work) = (name(upper), name(work));
        options.push_str(&format!(",volatile,upperdir={upper},workdir={work}"));
    }
    let options = std::ffi::CString::new(options)
        .map_err(|_| Failure("overlay options hold a zero byte".into()))?;
    mount("overlay", target, "overlay", flags, options.as_c_str())
        .context(|| format!("overlay of {} layers", lower.len()))
}

/// Of a directory.
pub fn open_path(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(|| format!("opening {}", path.display()))
}

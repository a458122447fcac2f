//! An image mounted beside the root file system: its layers merged, with nothing
//! writable among them. Programs in it run, as containerd has it; the `noexec` of
//! KEP-4639's first versions is no more.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags, open_tree, unmount};
use vetch_shim::protocol::ImageTree;
use vetch_shim::resolve::directory_in;

use super::{mounts, overlay};
use crate::failure::{Context, Failure};
use crate::sys;
use crate::users::Users;

/// The tree, mounted nowhere yet. `scratch` is a directory to mount it at for a
/// moment: overlayfs by descriptors alone takes 256 bytes of an option before 6.5.
pub fn prepare(
    image: &ImageTree,
    scratch: &Path,
    opens_nodes: bool,
    users: Option<&Users>,
) -> Result<OwnedFd, Failure> {
    let sub_path = image.sub_path.as_deref();
    let tree = match &image.lower[..] {
        [only] => {
            let tree = part(&overlay::open_path(only)?, sub_path)?;
            if let Some(users) = users {
                mounts::idmap(&tree, only, users)?;
            }
            tree
        }
        layers => {
            overlay::mount_at(scratch, layers, None, MountFlags::RDONLY, users)?;
            let tree = part(&overlay::open_path(scratch)?, sub_path)?;
            unmount(scratch, UnmountFlags::DETACH)
                .context(|| format!("unmounting {}", scratch.display()))?;
            tree
        }
    };
    let mut set = libc::MOUNT_ATTR_RDONLY;
    if !opens_nodes {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    sys::mount_setattr(&tree, false, set, libc::MS_PRIVATE)
        .context(|| "making an image read-only".into())?;
    Ok(tree)
}

/// A copy of a directory of what is mounted at `root`. Files are refused, as by containerd.
fn part(root: &OwnedFd, sub_path: Option<&Path>) -> Result<OwnedFd, Failure> {
    let step = || match sub_path {
        Some(path) => format!("sub path {path:?} of the image"),
        None => "files of the image".into(),
    };
    let found = directory_in(root, sub_path.unwrap_or(Path::new("."))).context(step)?;
    open_tree(
        &found,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .context(step)
}

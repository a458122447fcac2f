//! Mounts as descriptors: a source is taken in the host's tree, its flags are
//! set while nobody sees it, then it is put in place in the container's.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use vetch_shim::protocol::{BindMount, Propagation};

use super::propagation;
use crate::failure::{Context, Failure, words};
use crate::sys;
use crate::users::Users;

/// A detached copy of what is mounted at `source`, with what is mounted below,
/// that neither hears of the original's mounts nor tells it of its own.
pub fn clone_tree(source: &Path) -> Result<OwnedFd, Failure> {
    let tree = clone_peer(source)?;
    sys::mount_setattr(&tree, true, 0, libc::MS_PRIVATE)
        .context(|| format!("mount source {}", source.display()))?;
    Ok(tree)
}

fn clone_peer(source: &Path) -> Result<OwnedFd, Failure> {
    open_tree(
        CWD,
        source,
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .context(|| format!("mount source {}", source.display()))
}

/// A bind mount's source with its propagation and flags set.
pub fn prepare_bind(
    source: &Path,
    mount: &BindMount,
    opens_nodes: bool,
    users: Option<&Users>,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mounting {}", source.display());
    propagation::check(source, mount.propagation)?;
    let tree = clone_peer(source)?;
    let propagation = match mount.propagation {
        Propagation::Private => libc::MS_PRIVATE,
        // The copy is a peer of the host's mount; as its slave it hears of
        // new mounts and tells of none.
        Propagation::HostToContainer => libc::MS_SLAVE,
        Propagation::Bidirectional => libc::MS_SHARED,
    };
    sys::mount_setattr(&tree, true, 0, propagation).context(step)?;
    if let Some(users) = users {
        idmap(&tree, source, users)?;
    }
    // Only the top mount: Kubernetes' readOnly is not recursive by itself.
    let mut set = 0;
    if mount.readonly {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if mount.recursive_readonly {
        sys::mount_setattr(&tree, true, libc::MOUNT_ATTR_RDONLY, 0).context(step)?;
    }
    if !opens_nodes {
        set |= libc::MOUNT_ATTR_NODEV;
    }
    sys::mount_setattr(&tree, false, set, 0).context(step)?;
    Ok(tree)
}

/// What belongs to a user of the node belongs to the pod's of that number. What
/// is mounted below a volume on a file system that cannot is nobody's there.
pub fn idmap(tree: &OwnedFd, source: &Path, users: &Users) -> Result<(), Failure> {
    let namespace = users.namespace.as_fd();
    sys::mount_idmapped(tree, true, namespace)
        .or_else(|_| sys::mount_idmapped(tree, false, namespace))
        .map_err(|error| {
            Failure(format!(
                "mount source {}: its file system takes no idmapped mount, which a pod with a \
                 user namespace needs: {}",
                source.display(),
                words(&error)
            ))
        })
}

pub fn attach(mount: &OwnedFd, target: &Path) -> Result<(), Failure> {
    move_mount(
        mount,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )
    .context(|| format!("mounting at {}", target.display()))
}

/// Puts `mount` at `target`, which is made when it is missing.
pub fn attach_at(mount: &OwnedFd, target: &Path) -> Result<(), Failure> {
    let step = || format!("making mount point {}", target.display());
    let stat = rustix::fs::fstat(mount.as_fd()).context(step)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        make_dir(target)?;
    } else if fs::metadata(target).is_err() {
        if let Some(parent) = target.parent() {
            make_dir(parent)?;
        }
        fs::File::create(target).context(step)?;
    }
    attach(mount, target)
}

/// `mkdir -p`, also through a symlink whose target is not there yet.
pub fn make_dir(path: &Path) -> Result<(), Failure> {
    make_dir_within(path, 8)
}

fn make_dir_within(path: &Path, links: u32) -> Result<(), Failure> {
    if path.is_dir() {
        return Ok(());
    }
    let step = || format!("mkdir {}", path.display());
    if let Some(parent) = path.parent() {
        make_dir_within(parent, links)?;
    }
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && links > 0 => {
            let Ok(to) = fs::read_link(path) else {
                return Err(Errno::NOTDIR).context(step);
            };
            let parent = path.parent().unwrap_or(Path::new("/"));
            make_dir_within(&parent.join(to), links - 1)
        }
        Err(error) => Err(error).context(step),
    }
}

/// A new file system, nowhere mounted yet.
pub fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mounting {kind}");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).context(step)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key).context(step)?;
        } else {
            fsconfig_set_string(&context, *key, *value).context(step)?;
        }
    }
    fsconfig_create(&context).context(step)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context(step)
}

/// Makes what is at `path` read-only, when there is such a thing.
pub fn read_only(path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let tree = clone_tree(path)?;
    sys::mount_setattr(&tree, false, libc::MOUNT_ATTR_RDONLY, 0)
        .context(|| format!("making {} read-only", path.display()))?;
    attach(&tree, path)
}

/// Hides what is at `path`, when there is such a thing.
pub fn mask(path: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    let cover = if metadata.is_dir() {
        new_filesystem(
            "tmpfs",
            &[("size", "0"), ("nr_inodes", "2")],
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?
    } else {
        clone_tree(Path::new("/dev/null"))?
    };
    attach(&cover, path)
}

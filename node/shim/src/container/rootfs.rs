//! The root file system: layers under one writable directory, entered with
//! pivot_root. All but the sources of bind mounts is done after that, where
//! every path, whatever symlinks an image has, stays in the container.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use vetch_shim::protocol::{Bundle, MountSource};

use super::filesystems::{self, Devices};
use super::overlay::{self, Writable};
use super::{image, mounts};
use crate::failure::{Context, Failure};
use crate::sys;
use crate::users::Users;

/// What the container has of the host's tree, once it is taken.
pub struct Taken {
    trees: Vec<OwnedFd>,
    devices: Devices,
    /// Those of the bundle, as mounts of the host's nodes: also a user namespace has them so, and
    /// whatever stands for a device cgroup is not on them.
    own_devices: Vec<OwnedFd>,
    shm: OwnedFd,
    /// Where it is not to be found at its mount point: in a user namespace, which
    /// moves no mount that was there before.
    root: Option<OwnedFd>,
}

/// As the node's root, in a mount namespace that the host does not see.
pub fn take(
    bundle: &Bundle,
    target: &Path,
    shm: &Path,
    users: Option<&Users>,
) -> Result<Taken, Failure> {
    let opens_nodes = bundle.opens_nodes();
    let mut trees = Vec::new();
    for mount in &bundle.mounts {
        trees.push(match &mount.source {
            MountSource::Path(path) => Some(mounts::prepare_bind(path, mount, opens_nodes, users)?),
            // Is mounted on the way, which the host must not hear of.
            MountSource::Image(_) => None,
        });
    }
    let devices = filesystems::take_devices(bundle.privileged, users)?;
    let own_devices = bundle.devices.iter();
    let own_devices = own_devices
        .map(|device| mounts::clone_tree(&device.source))
        .collect::<Result<_, _>>()?;
    let shm = mounts::clone_tree(shm)?;

    // From here on no mount reaches the host. The copies above were taken
    // while they were still the host's peers.
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )
    .context(|| "mount propagation".into())?;
    for (mount, tree) in bundle.mounts.iter().zip(&mut trees) {
        if let MountSource::Image(image) = &mount.source {
            *tree = Some(image::prepare(image, target, opens_nodes, users)?);
        }
    }
    mount_root(bundle, target, users)?;
    let root = users.map(|_| mounts::clone_tree(target)).transpose()?;
    Ok(Taken {
        trees: trees.into_iter().flatten().collect(),
        devices,
        own_devices,
        shm,
        root,
    })
}

/// In the mount namespace that the container keeps.
pub fn enter(bundle: &Bundle, target: &Path, taken: Taken) -> Result<(), Failure> {
    // A user namespace gets those only where it sees the host's.
    let kernel = filesystems::make_kernel(bundle)?;
    match &taken.root {
        Some(root) => {
            mounts::attach(root, Path::new("/"))?;
            rustix::process::fchdir(root).context(|| "entering the root file system".into())?;
        }
        None => rustix::process::chdir(target).context(|| "pivot_root".into())?,
    }
    pivot()?;

    filesystems::mount_all(bundle, kernel, taken.devices, &taken.shm)?;
    for (mount, tree) in bundle.mounts.iter().zip(&taken.trees) {
        mounts::attach_at(tree, &mount.target)?;
    }
    for (device, tree) in bundle.devices.iter().zip(&taken.own_devices) {
        mounts::attach_at(tree, &device.target)?;
    }
    mounts::make_dir(Path::new(&bundle.cwd))?;
    for path in &bundle.readonly_paths {
        mounts::read_only(Path::new(path))?;
    }
    for path in &bundle.masked_paths {
        mounts::mask(Path::new(path))?;
    }
    if bundle.readonly_rootfs {
        let root = overlay::open_path(Path::new("/"))?;
        sys::mount_setattr(&root, false, libc::MOUNT_ATTR_RDONLY, 0)
            .context(|| "making the root file system read-only".into())?;
    }
    Ok(())
}

fn mount_root(bundle: &Bundle, target: &Path, users: Option<&Users>) -> Result<(), Failure> {
    let flags = if bundle.opens_nodes() {
        MountFlags::empty()
    } else {
        MountFlags::NODEV
    };
    let writable = Writable {
        upper: &bundle.upper,
        work: &bundle.work,
    };
    overlay::mount_at(target, &bundle.lower, Some(writable), flags, users)
}

/// To the working directory. The old root ends up on top of the new one and is
/// taken off from there: no directory for it is needed in the image.
fn pivot() -> Result<(), Failure> {
    let step = || "pivot_root".to_owned();
    rustix::process::pivot_root(".", ".").context(step)?;
    unmount(".", UnmountFlags::DETACH).context(step)?;
    rustix::process::chdir("/").context(step)
}

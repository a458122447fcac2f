//! /proc, /sys and /dev as every container has them.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::MountAttrFlags;
use vetch_shim::protocol::Bundle;

use super::mounts::{attach, clone_tree, make_dir, new_filesystem};
use crate::failure::{Context, Failure};
use crate::users::Users;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

const QUIET: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Taken from the host before its tree is out of reach.
pub enum Devices {
    /// As mounts of the host's own nodes: the usual six, or all in a user namespace,
    /// whose root makes none.
    Bound(Vec<(PathBuf, OwnedFd)>),
    /// Everything the host has: path below /dev, kind and number.
    Made(Vec<(PathBuf, FileType, u64, u32)>),
}

pub fn take_devices(privileged: bool, users: Option<&Users>) -> Result<Devices, Failure> {
    if privileged {
        let mut found = Vec::new();
        list_devices(Path::new("/dev"), &mut found);
        if users.is_none() {
            return Ok(Devices::Made(found));
        }
        // A console is made of the container's own terminal, and the host's may vanish.
        let paths = found.into_iter().map(|(path, ..)| path);
        let bound = paths
            .filter(|path| path != Path::new("/dev/console"))
            .filter_map(|path| clone_tree(&path).ok().map(|tree| (path, tree)));
        return Ok(Devices::Bound(bound.collect()));
    }
    DEVICES
        .iter()
        .map(|name| {
            let path = Path::new("/dev").join(name);
            clone_tree(&path).map(|tree| (path, tree))
        })
        .collect::<Result<_, _>>()
        .map(Devices::Bound)
}

fn list_devices(dir: &Path, found: &mut Vec<(PathBuf, FileType, u64, u32)>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            let own = ["pts", "shm", "mqueue", "fd"]
                .iter()
                .any(|name| path.ends_with(name));
            if !own {
                list_devices(&path, found);
            }
        } else if kind.is_char_device() && path != Path::new("/dev/ptmx") {
            found.push((
                path,
                FileType::CharacterDevice,
                metadata.rdev(),
                metadata.mode(),
            ));
        } else if kind.is_block_device() {
            found.push((
                path,
                FileType::BlockDevice,
                metadata.rdev(),
                metadata.mode(),
            ));
        }
    }
}

/// A file system that is mounted nowhere yet, and where it will be.
type Kernel = (OwnedFd, &'static str);

/// They show the namespaces of who makes them.
pub fn make_kernel(bundle: &Bundle) -> Result<Vec<Kernel>, Failure> {
    let kernel = if bundle.privileged {
        QUIET
    } else {
        QUIET | MountAttrFlags::MOUNT_ATTR_RDONLY
    };
    [
        ("proc", QUIET, "/proc"),
        ("sysfs", kernel, "/sys"),
        ("cgroup2", kernel, "/sys/fs/cgroup"),
    ]
    .into_iter()
    .map(|(kind, flags, target)| Ok((new_filesystem(kind, &[], flags)?, target)))
    .collect()
}

pub fn mount_all(
    bundle: &Bundle,
    kernel: Vec<Kernel>,
    devices: Devices,
    shm: &OwnedFd,
) -> Result<(), Failure> {
    for (filesystem, target) in kernel {
        make_dir(Path::new(target))?;
        attach(&filesystem, Path::new(target))?;
    }

    let mut dev_flags = MountAttrFlags::MOUNT_ATTR_NOSUID;
    if !bundle.opens_nodes() {
        dev_flags |= MountAttrFlags::MOUNT_ATTR_NODEV;
    }
    place(
        "tmpfs",
        &[("mode", "755"), ("size", "65536k")],
        dev_flags,
        "/dev",
    )?;
    place(
        "devpts",
        &[
            ("newinstance", ""),
            ("ptmxmode", "0666"),
            ("mode", "0620"),
            ("gid", "5"),
        ],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        "/dev/pts",
    )?;
    place("mqueue", &[], QUIET, "/dev/mqueue")?;
    make_dir(Path::new("/dev/shm"))?;
    attach(shm, Path::new("/dev/shm"))?;
    match devices {
        Devices::Bound(devices) => {
            for (path, tree) in devices {
                let step = || format!("making {}", path.display());
                if let Some(parent) = path.parent() {
                    make_dir(parent)?;
                }
                fs::File::create(&path).context(step)?;
                attach(&tree, &path)?;
            }
        }
        Devices::Made(devices) => {
            for (path, kind, number, mode) in devices {
                let step = || format!("making {}", path.display());
                if let Some(parent) = path.parent() {
                    make_dir(parent)?;
                }
                let mode = Mode::from_raw_mode(mode & 0o7777);
                mknodat(CWD, &path, kind, mode, number).context(step)?;
                rustix::fs::chmod(&path, mode).context(step)?;
            }
        }
    }
    for (target, link) in LINKS {
        symlink(target, link).context(|| format!("making {link}"))?;
    }
    Ok(())
}

fn place(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
    target: &str,
) -> Result<(), Failure> {
    let target = Path::new(target);
    make_dir(target)?;
    attach(&new_filesystem(kind, options, attributes)?, target)
}

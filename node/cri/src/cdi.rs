//! Devices by the Container Device Interface: a name, `vendor.com/class=device`, stands for what the
//! files of vendors say that a container with it needs. What a hook would do is refused: this runtime
//! runs no programs of others beside containers.
//!
//! <https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md> (1.1)

mod file;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;
use tracing::warn;
use vetch_runtime::{ContainerSpec, Device, DeviceAccess, Mount, MountSource, Propagation};

use crate::container::access;
use crate::error::unsupported;
use file::{DeviceNode, Edits, Spec};

/// What is later wins.
pub const DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// A file, by its directory's place among them.
#[derive(Debug)]
struct Found {
    rank: usize,
    path: PathBuf,
    spec: Spec,
}

/// Adds what `names` stand for.
///
/// # Errors
/// `InvalidArgument` for a name that nothing is known of, `Unimplemented` for what is not done here.
pub fn add(spec: &mut ContainerSpec, names: &[&str], dirs: &[&Path]) -> Result<(), Status> {
    if names.is_empty() {
        return Ok(());
    }
    let found = read(dirs).map_err(|error| Status::unknown(format!("CDI: {error}")))?;
    // What a file says of all its devices is done once.
    let mut done = BTreeSet::new();
    for name in names {
        let (of, edits) = find(&found, name, dirs)?;
        if done.insert(&of.path) {
            apply(spec, name, &of.spec.container_edits)?;
        }
        apply(spec, name, edits)?;
    }
    Ok(())
}

/// One that cannot be understood is no reason to refuse another's devices.
fn read(dirs: &[&Path]) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    for (rank, dir) in dirs.iter().enumerate() {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io::Error::other(format!("{}: {error}", dir.display()))),
        };
        for entry in entries {
            let path = entry?.path();
            match Spec::read(&path) {
                Some(Ok(spec)) => all.push(Found { rank, path, spec }),
                Some(Err(error)) => warn!(file = %path.display(), "a CDI file: {error}"),
                None => {}
            }
        }
    }
    Ok(all)
}

fn find<'a>(
    all: &'a [Found],
    name: &str,
    dirs: &[&Path],
) -> Result<(&'a Found, &'a Edits), Status> {
    let invalid = |words: String| Status::invalid_argument(format!("cdi_devices: {words}"));
    let (kind, device) = name
        .split_once('=')
        .filter(|(kind, device)| kind.contains('/') && !device.is_empty())
        .ok_or_else(|| invalid(format!("{name:?} is not vendor/class=device")))?;
    let with = |found: &'a Found| {
        let own = found.spec.devices.iter().find(|own| own.name == device);
        own.filter(|_| found.spec.kind == kind)
            .map(|own| (found, &own.container_edits))
    };
    let mut of = all.iter().filter_map(with).collect::<Vec<_>>();
    let first = of.iter().map(|(found, _)| found.rank).max();
    of.retain(|(found, _)| Some(found.rank) == first);
    match of[..] {
        [one] => Ok(one),
        [] => {
            let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            let dirs = dirs.join(" and ");
            Err(invalid(format!(
                "no file in {dirs} has the device {name:?}"
            )))
        }
        [(one, _), (other, _), ..] => Err(invalid(format!(
            "the device {name:?} is in {} and in {}",
            one.path.display(),
            other.path.display()
        ))),
    }
}

fn apply(spec: &mut ContainerSpec, name: &str, edits: &Edits) -> Result<(), Status> {
    let invalid = |words: String| Status::invalid_argument(format!("CDI device {name:?}: {words}"));
    if let Some(what) = edits.beyond() {
        return Err(unsupported(&format!("CDI device {name:?} with {what} is")));
    }
    for pair in &edits.env {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| invalid(format!("env {pair:?} has no =")))?;
        spec.env.push((key.to_owned(), value.to_owned()));
    }
    for node in &edits.device_nodes {
        spec.devices.push(device(name, node)?);
    }
    for mount in &edits.mounts {
        spec.mounts.push(bind(name, mount)?);
    }
    // 0 is what a file says that has none.
    let groups = edits.additional_gids.iter().filter(|gid| **gid != 0);
    spec.supplemental_groups.extend(groups);
    Ok(())
}

/// The container has the node's own one: a file that wants another number, owner or mode for it wants
/// what is not done here.
fn device(name: &str, node: &DeviceNode) -> Result<Device, Status> {
    let path = node.host_path.as_ref().unwrap_or(&node.path);
    let all = DeviceAccess {
        read: true,
        write: true,
        make: true,
    };
    let access = match node.permissions.as_str() {
        "" => all,
        given => access(given).ok_or_else(|| {
            let words = format!("CDI device {name:?}: permissions of {given:?}");
            Status::invalid_argument(words)
        })?,
    };
    if let Some(what) = node.differs_from(path) {
        return Err(unsupported(&format!(
            "CDI device {name:?} whose {} has another {what} than the node's is",
            node.path.display()
        )));
    }
    Ok(Device {
        host_path: path.clone(),
        container_path: node.path.clone(),
        access,
    })
}

fn bind(name: &str, mount: &file::Mount) -> Result<Mount, Status> {
    if !matches!(mount.kind.as_str(), "" | "none" | "bind") {
        let kind = &mount.kind;
        return Err(unsupported(&format!(
            "CDI device {name:?} with a mount of {kind:?} is"
        )));
    }
    let mut made = Mount {
        source: MountSource::Host(mount.host_path.clone()),
        container_path: mount.container_path.clone(),
        readonly: false,
        recursive_readonly: false,
        propagation: Propagation::Private,
    };
    for option in &mount.options {
        match option.as_str() {
            "bind" | "rbind" | "rw" | "private" | "rprivate" => {}
            "ro" => made.readonly = true,
            "slave" | "rslave" => made.propagation = Propagation::HostToContainer,
            "shared" | "rshared" => made.propagation = Propagation::Bidirectional,
            other => {
                let words = format!("CDI device {name:?} with the mount option {other:?} is");
                return Err(unsupported(&words));
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests;

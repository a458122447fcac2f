//! Which nodes of the machine a container's devices are.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use vetch_shim::protocol::DeviceBind;

use super::DeviceError;
use crate::types::{Device, DeviceAccess};

/// What is below /dev and no device of the machine's, when a client asks for a directory.
const OTHERS: [&str; 4] = ["pts", "shm", "mqueue", "fd"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Block,
    Character,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Without symlinks.
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub kind: Kind,
    pub major: u32,
    pub minor: u32,
    pub access: DeviceAccess,
}

impl DeviceNode {
    pub fn bind(&self) -> DeviceBind {
        DeviceBind {
            source: self.host_path.clone(),
            target: Path::new("/").join(&self.container_path),
        }
    }

    /// Whether nothing of the device is kept from the container.
    pub fn is_whole(&self) -> bool {
        self.access.read && self.access.write
    }
}

/// # Errors
/// For a device that is not there: its container would find that out late.
pub fn find(devices: &[Device]) -> Result<Vec<DeviceNode>, DeviceError> {
    let mut found = Vec::new();
    for device in devices {
        let failed = |source: io::Error| DeviceError::Node {
            path: device.host_path.clone(),
            source,
        };
        let host_path = fs::canonicalize(&device.host_path).map_err(failed)?;
        let before = found.len();
        look(&host_path, device, &device.container_path, &mut found).map_err(failed)?;
        if found.len() == before {
            return Err(DeviceError::NoDevice { path: host_path });
        }
    }
    Ok(found)
}

fn look(
    host_path: &Path,
    device: &Device,
    container_path: &Path,
    found: &mut Vec<DeviceNode>,
) -> io::Result<()> {
    let metadata = fs::symlink_metadata(host_path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(host_path)? {
            let name = entry?.file_name();
            if OTHERS.iter().any(|other| name == *other) {
                continue;
            }
            let inside = container_path.join(&name);
            look(&host_path.join(&name), device, &inside, found)?;
        }
    } else if let Some(kind) = kind(&metadata) {
        let number = metadata.rdev();
        found.push(DeviceNode {
            host_path: host_path.to_owned(),
            container_path: container_path.to_owned(),
            kind,
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            access: device.access,
        });
    }
    Ok(())
}

fn kind(metadata: &Metadata) -> Option<Kind> {
    let kind = metadata.file_type();
    match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => Some(Kind::Block),
        (_, true) => Some(Kind::Character),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn device(host_path: &Path) -> Device {
        Device {
            host_path: host_path.to_owned(),
            container_path: "/dev/own".into(),
            access: DeviceAccess {
                read: true,
                ..DeviceAccess::default()
            },
        }
    }

    #[test]
    fn devices_are_found_by_what_leads_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("/dev/zero", &link).unwrap();
        let zero = DeviceNode {
            host_path: "/dev/zero".into(),
            container_path: "/dev/own".into(),
            kind: Kind::Character,
            major: 1,
            minor: 5,
            access: device(&link).access,
        };
        for path in [Path::new("/dev/zero"), &link] {
            assert_eq!(find(&[device(path)]).unwrap(), [zero.clone()]);
        }
        assert_eq!(zero.bind().target, Path::new("/dev/own"));
        assert!(!zero.is_whole());
        // A directory stands for all in it, but for links.
        for (path, words) in [
            (dir.path(), "is no device"),
            (dir.path().join("nothing").as_path(), "device "),
            (Path::new("/etc/hostname"), "is no device"),
        ] {
            let refused = find(&[device(path)]).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let all = find(&[device(Path::new("/dev"))]).unwrap();
        let null = |node: &&DeviceNode| node.container_path == Path::new("/dev/own/null");
        assert_eq!(all.iter().find(null).unwrap().minor, 3);
        assert!(
            all.iter()
                .all(|node| !node.host_path.starts_with("/dev/pts"))
        );
    }
}

//! Which devices of the node's a client wants.

use std::path::Path;

use tonic::Status;
use vetch_cri_proto::v1::Device as CriDevice;
use vetch_runtime::{Device, DeviceAccess};

pub fn device(given: &CriDevice) -> Result<Device, Status> {
    let CriDevice {
        container_path,
        host_path,
        permissions,
    } = given;
    let invalid = |words: &str| Status::invalid_argument(format!("device {host_path:?}: {words}"));
    if !Path::new(host_path).is_absolute() {
        return Err(invalid("host_path must be an absolute path"));
    }
    if !Path::new(container_path).is_absolute() {
        return Err(invalid("container_path must be an absolute path"));
    }
    Ok(Device {
        host_path: host_path.into(),
        container_path: container_path.into(),
        access: access(permissions).ok_or_else(|| {
            invalid(&format!(
                "permissions are some of r, w and m, and not {permissions:?}"
            ))
        })?,
    })
}

/// cgroups' words, each letter once.
pub fn access(permissions: &str) -> Option<DeviceAccess> {
    let mut access = DeviceAccess::default();
    for letter in permissions.chars() {
        let may = match letter {
            'r' => &mut access.read,
            'w' => &mut access.write,
            'm' => &mut access.make,
            _ => return None,
        };
        if std::mem::replace(may, true) {
            return None;
        }
    }
    (!permissions.is_empty()).then_some(access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_the_letters_of_cgroups() {
        for (host_path, container_path, permissions, want) in [
            ("/dev/fuse", "/dev/fuse", "rwm", Some((true, true, true))),
            ("/dev/fuse", "/dev/own", "mr", Some((true, false, true))),
            ("/dev/fuse", "/dev/own", "w", Some((false, true, false))),
            ("/dev/fuse", "/dev/own", "", None),
            ("/dev/fuse", "/dev/own", "rr", None),
            ("/dev/fuse", "/dev/own", "rx", None),
            ("fuse", "/dev/own", "r", None),
            ("/dev/fuse", "", "r", None),
        ] {
            let made = device(&CriDevice {
                host_path: host_path.into(),
                container_path: container_path.into(),
                permissions: permissions.into(),
            });
            match (made, want) {
                (Ok(made), Some((read, write, make))) => {
                    let want = DeviceAccess { read, write, make };
                    assert_eq!(made.access, want, "{permissions}");
                    assert_eq!(made.container_path, Path::new(container_path));
                }
                (Err(refused), None) => {
                    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
                }
                (made, _) => panic!("{host_path} {container_path} {permissions:?}: {made:?}"),
            }
        }
    }
}

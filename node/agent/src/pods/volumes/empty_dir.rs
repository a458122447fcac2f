//! emptyDir, and the directories other volumes are written into.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::{VolumeError, mounts, ownership};

/// What a directory's content is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    /// A tmpfs of at most so many bytes.
    Memory(Option<u64>),
    /// A hugetlbfs of pages of so many bytes.
    HugePages(u64),
}

/// Open to all users, as the kubelet makes them; one that exists stays as it is.
pub fn make(path: &Path, medium: Medium, group: Option<u32>) -> Result<(), VolumeError> {
    let existed = path.is_dir();
    fs::create_dir_all(path).map_err(VolumeError::io("making", path))?;
    let mounted = match medium {
        Medium::Disk => false,
        Medium::Memory(size) if !mounts::is_mount_point(path) => {
            let size = size.map(|size| format!(",size={size}"));
            mount_fs(
                "tmpfs",
                path,
                format!("mode=0777{}", size.unwrap_or_default()),
            )?;
            true
        }
        Medium::HugePages(size) if !mounts::is_mount_point(path) => {
            mount_fs("hugetlbfs", path, format!("mode=0777,pagesize={size}"))?;
            true
        }
        Medium::Memory(_) | Medium::HugePages(_) => false,
    };
    if existed && !mounted {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o777))
        .map_err(VolumeError::io("changing mode of", path))?;
    match group {
        Some(group) => ownership::give_to_group(path, group, false),
        None => Ok(()),
    }
}

fn mount_fs(kind: &str, path: &Path, options: String) -> Result<(), VolumeError> {
    let options = std::ffi::CString::new(options)
        .map_err(|error| VolumeError::io("mounting at", path)(std::io::Error::from(error)))?;
    // As the kubelet: programs on it may run.
    mount(kind, path, kind, MountFlags::empty(), options.as_c_str())
        .map_err(VolumeError::io("mounting at", path))
}

//! What is mounted below a directory, and undoing it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{UnmountFlags, unmount};

use super::VolumeError;

/// Of the mount namespace that this very thread works in.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Whether something is mounted right here. The kernel says it of any path
/// since 5.8 (STATX_ATTR_MOUNT_ROOT, statx(2)).
pub fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

pub fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    let Ok(dir) = fs::canonicalize(dir) else {
        return Ok(());
    };
    let text = fs::read(MOUNTINFO).map_err(VolumeError::io("reading", Path::new(MOUNTINFO)))?;
    // Later mounts may lie on earlier ones.
    for point in mount_points(&text).into_iter().rev() {
        if point.starts_with(&dir) {
            detach(&point)?;
        }
    }
    Ok(())
}

/// Nothing mounted there is as good.
pub fn detach(point: &Path) -> Result<(), VolumeError> {
    match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(VolumeError::io("unmounting", point)(error)),
    }
}

/// The fifth field of each line, in the order they were mounted.
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .collect()
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = rest
            .get(1..4)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (*first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            (byte, _) => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_the_kernels_list() {
        let text = b"22 1 0:21 / /proc rw - proc proc rw\n30 22 0:30 / /a\\040b/\\134c rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(
            mount_points(text),
            [PathBuf::from("/proc"), PathBuf::from("/a b/\\c")]
        );
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self/nothing")));
    }
}

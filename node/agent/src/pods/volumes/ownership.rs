//! fsGroup: the pod's group may use a volume's files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use super::VolumeError;

/// Gives `path` and all below to the group; directories hand it on.
pub fn give_to_group(path: &Path, group: u32, read_only: bool) -> Result<(), VolumeError> {
    let meta = fs::symlink_metadata(path).map_err(VolumeError::io("looking at", path))?;
    if meta.gid() != group {
        lchown(path, None, Some(group)).map_err(VolumeError::io("changing group of", path))?;
    }
    if meta.file_type().is_symlink() {
        return Ok(());
    }
    let mode = mode_with_group(meta.mode() & 0o7777, meta.is_dir(), read_only);
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(VolumeError::io("changing mode of", path))?;
    if meta.is_dir() {
        let entries = fs::read_dir(path).map_err(VolumeError::io("reading", path))?;
        for entry in entries {
            let entry = entry.map_err(VolumeError::io("reading", path))?;
            give_to_group(&entry.path(), group, read_only)?;
        }
    }
    Ok(())
}

/// The kubelet's masks.
fn mode_with_group(mode: u32, is_dir: bool, read_only: bool) -> u32 {
    let files = if read_only { 0o440 } else { 0o660 };
    let dirs = if is_dir { 0o2110 } else { 0 };
    mode | files | dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (mode, is_dir, read_only, want) in [
            (0o600, false, false, 0o660),
            (0o600, false, true, 0o640),
            (0o777, true, false, 0o2777),
            (0o755, true, true, 0o2755),
            (0o400, false, true, 0o440),
        ] {
            assert_eq!(mode_with_group(mode, is_dir, read_only), want, "{mode:o}");
        }
    }

    #[test]
    fn a_tree_is_given_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "").unwrap();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let group = fs::metadata(dir.path()).unwrap().gid();
        give_to_group(dir.path(), group, false).unwrap();
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode("sub") & 0o2770, 0o2770);
        assert_eq!(mode("sub/file") & 0o660, 0o660);
    }
}

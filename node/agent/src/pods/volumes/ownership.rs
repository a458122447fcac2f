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

/// `fsGroupChangePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangePolicy {
    Always,
    /// What is given to the group at its root is so all the way down.
    OnRootMismatch,
}

/// Gives a volume with content of its own to the group, as the policy says.
pub fn hand_over(path: &Path, group: u32, policy: ChangePolicy) -> Result<(), VolumeError> {
    let meta = fs::symlink_metadata(path).map_err(VolumeError::io("looking at", path))?;
    let mode = meta.mode() & 0o7777;
    let is_given = meta.gid() == group && mode_with_group(mode, meta.is_dir(), false) == mode;
    match policy {
        ChangePolicy::OnRootMismatch if is_given => Ok(()),
        _ => give_to_group(path, group, false),
    }
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
    fn a_tree_whose_root_is_right_is_left_alone_if_so_asked() {
        let dir = tempfile::tempdir().unwrap();
        let group = fs::metadata(dir.path()).unwrap().gid();
        fs::write(dir.path().join("file"), "").unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let mode = || fs::metadata(dir.path().join("file")).unwrap().mode() & 0o777;
        for (root, policy, wanted) in [
            (0o2770, ChangePolicy::OnRootMismatch, 0o600),
            (0o700, ChangePolicy::OnRootMismatch, 0o660),
            (0o2770, ChangePolicy::Always, 0o660),
        ] {
            set(dir.path(), root);
            set(&dir.path().join("file"), 0o600);
            hand_over(dir.path(), group, policy).unwrap();
            assert_eq!(mode(), wanted, "{root:o} {policy:?}");
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

//! hostPath: a path of the node, checked for what the pod expects there.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use super::VolumeError;

/// `kind` is the volume's `type`; empty asks for nothing.
pub fn check(path: &Path, kind: &str) -> Result<(), VolumeError> {
    let wrong = |what| {
        Err(VolumeError::HostPath {
            path: path.to_owned(),
            what,
        })
    };
    match kind {
        // Whatever is there; runtimes make a directory of nothing.
        "" if path.exists() => return Ok(()),
        "" | "DirectoryOrCreate" => make_dir(path)?,
        "FileOrCreate" => make_file(path)?,
        _ => {}
    }
    let found = fs::metadata(path).map(|meta| meta.file_type());
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_ok_and(test);
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" | "Directory" if is(fs::FileType::is_dir) => Ok(()),
        "FileOrCreate" | "File" if is(fs::FileType::is_file) => Ok(()),
        "Socket" if is(|kind| kind.is_socket()) => Ok(()),
        "CharDevice" if is(|kind| kind.is_char_device()) => Ok(()),
        "BlockDevice" if is(|kind| kind.is_block_device()) => Ok(()),
        "DirectoryOrCreate" | "Directory" => wrong("is not a directory"),
        "FileOrCreate" | "File" => wrong("is not a file"),
        "Socket" => wrong("is not a socket file"),
        "CharDevice" => wrong("is not a character device"),
        "BlockDevice" => wrong("is not a block device"),
        other => Err(VolumeError::HostPathType(other.to_owned())),
    }
}

fn make_dir(path: &Path) -> Result<(), VolumeError> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(VolumeError::io("making", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(VolumeError::io("changing mode of", path))
}

/// Its directory must be there, as Kubernetes documents.
fn make_file(path: &Path) -> Result<(), VolumeError> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => fs::set_permissions(path, fs::Permissions::from_mode(0o644))
            .map_err(VolumeError::io("changing mode of", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(VolumeError::io("making", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("dir")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, kind, want) in [
            ("file", "", None),
            ("file", "File", None),
            ("file", "FileOrCreate", None),
            ("file", "Directory", Some("is not a directory")),
            ("file", "DirectoryOrCreate", Some("is not a directory")),
            ("dir", "Directory", None),
            ("dir", "File", Some("is not a file")),
            ("socket", "Socket", None),
            ("dir", "Socket", Some("is not a socket file")),
            ("file", "CharDevice", Some("is not a character device")),
            ("file", "BlockDevice", Some("is not a block device")),
            ("none", "Directory", Some("is not a directory")),
            ("none", "File", Some("is not a file")),
            ("new/dir", "DirectoryOrCreate", None),
            ("new-file", "FileOrCreate", None),
            ("new-any", "", None),
        ] {
            let got = check(&at(name), kind).err().map(|error| error.to_string());
            let want = want
                .map(|what| format!("hostPath type check failed: {} {what}", at(name).display()));
            assert_eq!(got, want, "{name} {kind}");
        }
        assert!(at("new/dir").is_dir() && at("new-file").is_file() && at("new-any").is_dir());
        assert!(check(&at("file"), "Nonsense").is_err());
        check(Path::new("/dev/null"), "CharDevice").unwrap();
    }
}

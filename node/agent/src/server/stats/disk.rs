//! Files, and the file system they are on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use vetch_runtime::{DiskUsage, disk_usage};

use super::StatsError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    pub device: u64,
    pub capacity: u64,
    /// Bytes of nobody, and those of them that all may have.
    pub free: u64,
    pub available: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// What some files take of the file system they are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub used: DiskUsage,
    pub on: FileSystem,
}

impl FileSystem {
    pub fn of(path: &Path) -> Result<FileSystem, StatsError> {
        let failed = |source| StatsError::FileSystem {
            path: path.to_owned(),
            source,
        };
        let found = rustix::fs::statvfs(path).map_err(|errno| failed(errno.into()))?;
        Ok(FileSystem {
            device: fs::metadata(path).map_err(failed)?.dev(),
            capacity: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bfree.saturating_mul(found.f_frsize),
            available: found.f_bavail.saturating_mul(found.f_frsize),
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        })
    }
}

impl Files {
    /// All below a directory.
    pub fn below(path: &Path) -> Result<Files, StatsError> {
        Ok(Files {
            used: disk_usage(path)?,
            on: FileSystem::of(path)?,
        })
    }
}

/// Name and place of each volume below a pod's directory: `volumes/<plugin>/<volume>`.
pub fn volumes(pod_dir: &Path) -> Result<Vec<(String, PathBuf)>, StatsError> {
    let mut all = Vec::new();
    for (_, plugin) in entries(&pod_dir.join("volumes"))? {
        all.extend(entries(&plugin)?);
    }
    all.sort();
    Ok(all)
}

/// None of a directory that is not there.
fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>, StatsError> {
    let failed = |source| StatsError::Directory {
        path: dir.to_owned(),
        source,
    };
    let found = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(failed)?,
    };
    let named = found.map(|entry| {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Ok((name, entry.path()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(volumes(dir.path()).unwrap(), []);
        for path in ["kubernetes.io~secret/z", "kubernetes.io~empty-dir/cache"] {
            fs::create_dir_all(dir.path().join("volumes").join(path)).unwrap();
        }
        fs::create_dir(dir.path().join("containers")).unwrap();
        let names: Vec<String> = volumes(dir.path())
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["cache", "z"]);
    }

    #[test]
    fn files_are_on_a_file_system() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), vec![1; 1 << 20]).unwrap();
        let files = Files::below(dir.path()).unwrap();
        assert!(files.used.bytes >= 1 << 20, "{files:?}");
        assert!(files.on.capacity >= files.on.free, "{files:?}");
        assert!(files.on.free >= files.on.available, "{files:?}");
        assert!(Files::below(&dir.path().join("none")).is_err());
    }
}

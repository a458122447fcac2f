//! What a directory takes on its disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::Error;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub bytes: u64,
    pub inodes: u64,
}

/// stat(2) counts in these, whatever the file system's blocks are.
const BLOCK: u64 = 512;

/// As du(1) counts: allocated blocks, a file with several names once, nothing of other file systems.
/// What goes away meanwhile is not counted.
pub fn usage(path: &Path) -> Result<DiskUsage, Error> {
    let mut sum = DiskUsage::default();
    let Some(root) = gone(fs::symlink_metadata(path)).map_err(Error::io("looking at", path))?
    else {
        return Ok(sum);
    };
    let mut linked = HashSet::new();
    let mut add = |metadata: &fs::Metadata| {
        if metadata.nlink() > 1 && !metadata.is_dir() && !linked.insert(metadata.ino()) {
            return;
        }
        sum.bytes += metadata.blocks() * BLOCK;
        sum.inodes += 1;
    };
    add(&root);
    let mut dirs = vec![path.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = gone(fs::read_dir(&dir)).map_err(Error::io("reading", &dir))?;
        for entry in entries.into_iter().flatten() {
            let found = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
            let Some((path, metadata)) = gone(found).map_err(Error::io("reading", &dir))? else {
                continue;
            };
            if metadata.dev() != root.dev() {
                continue;
            }
            add(&metadata);
            if metadata.is_dir() {
                dirs.push(path);
            }
        }
    }
    Ok(sum)
}

fn gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upper");
        assert_eq!(usage(&path).unwrap(), DiskUsage::default());
        fs::create_dir_all(path.join("a/b")).unwrap();
        let empty = usage(&path).unwrap();
        assert_eq!(empty.inodes, 3);
        fs::write(path.join("a/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(path.join("a/file"), path.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/", path.join("root")).unwrap();
        let full = usage(&path).unwrap();
        assert_eq!(full.inodes, 5);
        let more = full.bytes - empty.bytes;
        assert!(((1 << 20)..(1 << 21)).contains(&more), "{more}");
    }
}

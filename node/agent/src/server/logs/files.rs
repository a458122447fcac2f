//! The files of one container's log, oldest first: those that were full
//! (`0.log.<time>`), then the one that is written (`0.log`).
//!
//! Files are told apart by inode, so that a rotation between any two steps is
//! noticed and nothing is read twice.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct LogFiles {
    path: PathBuf,
    /// Read from the front; never empty.
    open: VecDeque<File>,
}

impl LogFiles {
    pub fn open(path: &Path) -> io::Result<LogFiles> {
        let current = File::open(path)?;
        let mut open = VecDeque::new();
        for old in rotated(path)? {
            match File::open(old) {
                // It was renamed after it was opened.
                Ok(file) if same(&file, &current)? => break,
                Ok(file) => open.push_back(file),
                // The oldest goes when there are too many.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        open.push_back(current);
        Ok(LogFiles {
            path: path.to_owned(),
            open,
        })
    }

    /// The open files, to be looked at before reading begins.
    pub fn handles(&self) -> impl DoubleEndedIterator<Item = &File> + ExactSizeIterator {
        self.open.iter()
    }

    /// Reading begins in this one of [`LogFiles::handles`], at this offset.
    pub fn start_at(&mut self, file: usize, offset: u64) -> io::Result<()> {
        self.open.drain(..file);
        match self.open.front_mut() {
            Some(file) => file.seek(SeekFrom::Start(offset)).map(drop),
            None => Ok(()),
        }
    }

    /// 0 at the present end of all.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(file) = self.open.front_mut() else {
                return Ok(0);
            };
            let length = file.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            if self.open.len() > 1 {
                self.open.pop_front();
                continue;
            }
            // The end of the last; if it was rotated away, what was written to
            // it before that comes first.
            let newer = self.newer()?;
            if newer.is_empty() {
                return Ok(0);
            }
            self.open.extend(newer);
        }
    }

    /// Files that came after the last open one.
    fn newer(&self) -> io::Result<Vec<File>> {
        let Some(last) = self.open.back() else {
            return Ok(Vec::new());
        };
        let current = match File::open(&self.path) {
            Ok(file) => file,
            // Between the rename and the new file, or all is removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if same(last, &current)? {
            return Ok(Vec::new());
        }
        let mut newer = Vec::new();
        for old in rotated(&self.path)? {
            match File::open(old) {
                Ok(file) if same(&file, &current)? => break,
                Ok(file) if same(&file, last)? => newer.clear(),
                Ok(file) => newer.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        newer.push(current);
        Ok(newer)
    }
}

fn same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Named by the time at which they were full, so in their order.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut prefix = path.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let mut found = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes())
        {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(files: &mut LogFiles) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 4];
        loop {
            match files.read(&mut buffer).unwrap() {
                0 => return String::from_utf8(text).unwrap(),
                length => text.extend_from_slice(&buffer[..length]),
            }
        }
    }

    fn append(path: &Path, text: &str) {
        use std::io::Write as _;
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn rotations_lose_and_repeat_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let rotate =
            |stamp: &str| fs::rename(&log, dir.path().join(format!("0.log.{stamp}"))).unwrap();
        append(&log, "first ");
        rotate("20260101-000001");
        append(&log, "second ");
        append(&dir.path().join("1.log"), "another's ");
        let mut files = LogFiles::open(&log).unwrap();
        assert_eq!(all(&mut files), "first second ");
        append(&log, "more ");
        assert_eq!(all(&mut files), "more ");
        // Written, rotated twice and written again before anybody looked.
        append(&log, "late ");
        rotate("20260101-000002");
        append(&log, "third ");
        rotate("20260101-000003");
        append(&log, "fourth ");
        assert_eq!(all(&mut files), "late third fourth ");
        // The file is gone for a moment.
        rotate("20260101-000004");
        assert_eq!(all(&mut files), "");
        append(&log, "fifth ");
        assert_eq!(all(&mut files), "fifth ");
        // So many rotations that the one that was read is removed.
        for stamp in 5..9 {
            rotate(&format!("20260101-00000{stamp}"));
            append(&log, &format!("{stamp} "));
        }
        for stamp in 1..6 {
            fs::remove_file(dir.path().join(format!("0.log.20260101-00000{stamp}"))).unwrap();
        }
        assert_eq!(all(&mut files), "5 6 7 8 ");
    }
}

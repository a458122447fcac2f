//! The file behind a container's log, and its rotation.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vetch_shim::protocol::{MAX_LOG_FILES, MAX_LOG_SIZE};

use crate::failure::complain;
use vetch_shim::time::{now, utc};

pub struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Said once in the supervisor's log, not for every line.
    failing: bool,
}

impl LogFile {
    pub fn open(path: &Path) -> io::Result<LogFile> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(LogFile {
            path: path.to_owned(),
            file,
            size,
            failing: false,
        })
    }

    /// After somebody has moved the file away.
    pub fn reopen(&mut self) -> io::Result<()> {
        *self = LogFile::open(&self.path)?;
        Ok(())
    }

    /// A full disk loses lines; it must not stop the container.
    pub fn write(&mut self, entries: &[u8]) {
        let rotated = if self.size >= MAX_LOG_SIZE {
            self.rotate()
        } else {
            Ok(())
        };
        let written = self.file.write_all(entries);
        match written {
            Ok(()) => self.size += entries.len() as u64,
            Err(_) => self.cut(),
        }
        match rotated.and(written) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                complain(format_args!("writing {}: {error}", self.path.display()));
                self.failing = true;
            }
            Err(_) => {}
        }
    }

    /// What a full disk has taken of the entries ends in the middle of a line, to which the next would
    /// be glued. What cannot be cut stays torn.
    fn cut(&self) {
        let longer = |meta: fs::Metadata| meta.len() > self.size;
        if self.file.metadata().is_ok_and(longer) {
            let _ = self.file.set_len(self.size);
        }
    }

    /// Old files are named by the time at which they were full, as the
    /// kubelet names them.
    fn rotate(&mut self) -> io::Result<()> {
        let t = utc(now());
        let stamp = format!(
            "{:04}{:02}{:02}-{:02}{:02}{:02}.{:09}",
            t.year, t.month, t.day, t.hour, t.minute, t.second, t.nanos
        );
        fs::rename(&self.path, suffixed(&self.path, &stamp))?;
        self.file = append(&self.path)?;
        self.size = 0;
        for old in surplus(rotated(&self.path)?, MAX_LOG_FILES - 1) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = suffixed(path, "");
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path
            .as_os_str()
            .as_encoded_bytes()
            .starts_with(prefix.as_os_str().as_encoded_bytes())
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The oldest, which sort first by name.
fn surplus(mut files: Vec<PathBuf>, keep: usize) -> Vec<PathBuf> {
    files.sort();
    files.truncate(files.len().saturating_sub(keep));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_files_of_ten_mebibytes() {
        let dir = std::env::temp_dir().join(format!("vetch-shim-log-{}", std::process::id()));
        let path = dir.join("app/0.log");
        let mut log = LogFile::open(&path).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..75 {
            log.write(&chunk);
        }
        let mut sizes: Vec<u64> = rotated(&path)
            .unwrap()
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .collect();
        sizes.push(fs::metadata(&path).unwrap().len());
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(sizes, [10 << 20, 10 << 20, 10 << 20, 10 << 20, 5 << 20]);
    }
}

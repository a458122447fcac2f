//! Files that hold secrets: whole or not there, and nobody else's to read.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}")]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { step, path, source }
}

pub fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(failed("make", path))
}

pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).map_err(failed("read", path)),
    }
}

/// Replaces the file at one instant; mode 0600, as a temporary file has it.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let mut file = temporary(path, text)?;
    file.as_file_mut()
        .sync_all()
        .map_err(failed("write", path))?;
    file.persist(path)
        .map(drop)
        .map_err(|error| failed("write", path)(error.error))
}

/// Writes the file unless somebody else was first, and returns what is there then.
pub fn write_once(path: &Path, text: &str) -> Result<String, FileError> {
    let file = temporary(path, text)?;
    file.as_file().sync_all().map_err(failed("write", path))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(path).map_err(failed("read", path))
        }
        Err(error) => Err(failed("write", path)(error.error)),
    }
}

fn temporary(path: &Path, text: &str) -> Result<tempfile::NamedTempFile, FileError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed("write", path))?;
    file.write_all(text.as_bytes())
        .map_err(failed("write", path))?;
    Ok(file)
}

//! What the daemon leaves in a sandbox directory for the one after it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Error;
use crate::types::{ContainerSpec, SandboxSpec};

/// Written before anything of the sandbox exists.
pub const SANDBOX_FILE: &str = "sandbox.json";
/// Written when all of a container exists.
pub const CONTAINER_FILE: &str = "container.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub spec: SandboxSpec,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub spec: ContainerSpec,
    pub created_at: Timestamp,
    pub cgroup: PathBuf,
    /// diff ids, kept in the store as long as the container.
    pub layers: Vec<String>,
    pub stop_signal: i32,
}

/// All or nothing, whatever kills us.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    let text = serde_json::to_vec(record).map_err(|source| Error::Record {
        path: path.to_owned(),
        source,
    })?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, text).map_err(Error::io("writing", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("renaming", path))
}

/// `None` when there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", path)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(source) => Err(Error::Record {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Nobody but root comes in: bundles hold secrets in their environment, and
/// layers have set-id programs of others.
pub fn private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Gone already is fine.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// `rm -rf`; gone already is fine.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

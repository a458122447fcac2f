//! The volumes of a pod, below its directory as the kubelet lays it out:
//!
//! ```text
//! <pod-dir>/<uid>/
//!   volumes/kubernetes.io~<kind>/<volume>   the content
//!   volume-subpaths/<volume>/<container>/<n>  bind mounts of subPaths
//!   containers/<container>/<hex>            termination messages
//!   etc-hosts, etc-hostname, resolv.conf
//!   allocated.json                          resources the pod was granted
//! ```

mod disk;
mod empty_dir;
mod host_path;
mod huge_pages;
pub mod mounts;
mod ownership;
mod payload;
mod persistent;
mod set_up;
pub mod subpath;
pub mod token;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::claims::ClaimError;
use super::downward::DownwardError;
use super::sources::SourceError;

pub use set_up::{Inputs, is_device, set_up, used};

/// Where a volume's content is for containers to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    pub path: PathBuf,
    /// Kubernetes writes the content, or the pod asks for no more: containers only read it.
    pub read_only: bool,
    /// A device of the node's, and no directory: containers use it as such.
    pub block: bool,
}

pub type MountedVolumes = BTreeMap<String, Mounted>;

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("{0} volumes are not supported by this node")]
    Unsupported(&'static str),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("references non-existent {kind} key: {key}")]
    Key { kind: &'static str, key: String },
    #[error(transparent)]
    Downward(#[from] DownwardError),
    #[error("invalid path {0:?}: it must be relative and stay in the volume")]
    Path(String),
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("hostPath type check failed: {path} {what}", path = path.display())]
    HostPath { path: PathBuf, what: &'static str },
    #[error("unknown hostPath type {0:?}")]
    HostPathType(String),
    #[error("unknown emptyDir medium {0:?}")]
    Medium(String),
    #[error("emptyDir of medium {medium} is requested, {what}")]
    HugePages { medium: String, what: &'static str },
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("volume {0} has volumeMode Block, but is specified in volumeMounts")]
    Block(String),
    #[error("volume {0} has volumeMode Filesystem, but is specified in volumeDevices")]
    FileSystem(String),
    #[error("hostPath volumes have no volumeMode Block: local ones have")]
    BlockHostPath,
    #[error("block device {path} {what}", path = path.display())]
    Disk { path: PathBuf, what: String },
    #[error("Mount options are not supported for this volume type")]
    MountOptions,
    #[error("mount option {0:?} is not one of a directory's mount")]
    MountOption(String),
    #[error("local volume {path} {what}", path = path.display())]
    Local { path: PathBuf, what: &'static str },
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl VolumeError {
    fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> VolumeError {
        let path = path.to_owned();
        move |source| VolumeError::Io {
            action,
            path,
            source: source.into(),
        }
    }
}

/// The directory of one pod.
pub fn pod_dir(root: &Path, uid: &str) -> PathBuf {
    root.join(uid)
}

/// Undoes all mounts below a pod's directory, then removes it.
pub fn remove(dir: &Path) -> Result<(), VolumeError> {
    mounts::unmount_below(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::io("removing", dir)(error))
        }
        _ => Ok(()),
    }
}

//! What ends the Node's task; what can be tried again is logged where it happens.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot read {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot measure the file system of {path}", path = path.display())]
    FileSystem {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot count the CPUs this process may use")]
    Cpus(#[source] io::Error),
}

impl NodeError {
    pub fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> NodeError {
        let path = path.into();
        move |source| NodeError::Read { path, source }
    }
}

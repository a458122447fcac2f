//! What can go wrong, in the words the agent shows.

use std::io;
use std::path::PathBuf;

use crate::types::{ContainerId, SandboxId};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("sandbox {0} not found")]
    SandboxNotFound(SandboxId),
    #[error("container {0} not found")]
    ContainerNotFound(ContainerId),
    #[error("sandbox {0} is not ready")]
    SandboxNotReady(SandboxId),
    #[error("container {id} is {state}, it must be {wanted}")]
    WrongState {
        id: ContainerId,
        state: &'static str,
        wanted: &'static str,
    },
    /// Whose processes a container was to join.
    #[error("invalid target container: {0}")]
    Target(String),
    #[error("user namespace: {0}")]
    UserNamespace(String),
    #[error("image {0} is not in the store")]
    ImageNotFound(String),
    /// A container was to mount it.
    #[error("sub path {path:?} of the image")]
    ImagePart {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no command specified")]
    NoCommand,
    #[error("invalid capability {0:?}")]
    UnknownCapability(String),
    #[error("unknown signal {0:?}")]
    UnknownSignal(String),
    /// The container's process could not be made; the container is Exited with
    /// reason StartError.
    #[error("failed to start container: {0}")]
    Start(String),
    #[error("failed to exec in container: {0}")]
    Exec(String),
    #[error("failed to attach to container: {0}")]
    Attach(String),
    #[error("supervisor {shim}: {message}", shim = shim.display())]
    ShimStart { shim: PathBuf, message: String },
    #[error("supervisor of sandbox {0} does not answer")]
    ShimGone(SandboxId),
    #[error("supervisor of sandbox {sandbox}: {message}")]
    Shim { sandbox: SandboxId, message: String },
    #[error("container {0} did not die within the time allowed after SIGKILL")]
    WouldNotDie(ContainerId),
    #[error("cgroup {path}: {message}", path = path.display())]
    Cgroup { path: PathBuf, message: String },
    #[error("{action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged", path = path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("a worker of the runtime died")]
    Worker(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Devices(#[from] crate::devices::DeviceError),
    #[error(transparent)]
    AppArmor(#[from] crate::apparmor::AppArmorError),
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::SeccompError),
    #[error(transparent)]
    Image(#[from] crate::images::ImageError),
}

/// An error with all its causes, for logs and events: `a: b: c`.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    }
}

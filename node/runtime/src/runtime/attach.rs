//! A client of a container's first process: hears what it writes from now on, and says what it reads.

use std::os::fd::OwnedFd;
use std::time::Duration;

use vetch_shim::protocol::{Attach, Reply, Request};

use super::Runtime;
use super::container::unexpected;
use crate::Error;
use crate::shim::ShimConnection;
use crate::types::*;

/// The supervisor answers at once.
const RESIZE_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends when dropped, as it does with the daemon; the container goes on.
pub struct Attachment {
    connection: ShimConnection,
    sandbox: SandboxId,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}

impl Attachment {
    /// Until the container's process has ended, or the client's input where
    /// that does not end the container's. Then all there is to hear is in the
    /// descriptors. A client that does not read is given up: an error. May be
    /// dropped and called again.
    pub async fn wait(&mut self) -> Result<(), Error> {
        match self.connection.receive().await {
            Ok(Some(Reply::Done)) => Ok(()),
            Ok(Some(Reply::Failed { message })) => Err(Error::Attach(message)),
            Ok(Some(other)) => Err(unexpected(&self.sandbox, &other)),
            Ok(None) | Err(_) => Err(Error::ShimGone(self.sandbox.clone())),
        }
    }
}

impl Runtime {
    /// With descriptors of the caller's, which may be closed when this returns:
    /// what is said to the container, and where its output goes; /dev/null
    /// where nobody wants it. `stdin`: whether somebody may say something, so
    /// that its end counts.
    pub async fn attach(
        &self,
        id: &ContainerId,
        stdin: bool,
        stdio: [OwnedFd; 3],
    ) -> Result<Attachment, Error> {
        let request = Request::Attach(Attach {
            container: id.0.clone(),
            stdin,
        });
        let (connection, sandbox) = self
            .hand_over(id, &request, &stdio)
            .await?
            .map_err(Error::Attach)?;
        Ok(Attachment {
            connection,
            sandbox,
        })
    }

    /// Of its first process, to so many characters.
    pub async fn resize_terminal(
        &self,
        id: &ContainerId,
        rows: u16,
        columns: u16,
    ) -> Result<(), Error> {
        let (sandbox, _) = self.find(id)?;
        let request = Request::ResizeTerminal {
            container: id.0.clone(),
            rows,
            columns,
        };
        match self.ask(&sandbox, &request, RESIZE_TIMEOUT).await? {
            Reply::Done => Ok(()),
            Reply::Failed { message } => Err(Error::Shim { sandbox, message }),
            other => Err(unexpected(&sandbox, &other)),
        }
    }

    /// Whether its first process has a terminal.
    pub fn has_terminal(&self, id: &ContainerId) -> Result<bool, Error> {
        self.look_at(id, |_, _, container| container.record.spec.tty)
            .ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }
}

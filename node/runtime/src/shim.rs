//! The daemon's end of a supervisor's socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use vetch_shim::protocol::{Reply, Request, SOCKET_FILE};
use vetch_shim::wire;

use crate::Error;

/// Namespaces are made in milliseconds; what takes longer hangs.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a supervisor in its directory; returns when the pod's namespaces
/// are made. It is nobody's child then.
pub async fn start(program: &Path, dir: &Path) -> Result<(), Error> {
    let failed = |message: String| Error::ShimStart {
        shim: program.to_owned(),
        message,
    };
    let ready = tokio::process::Command::new(program)
        .arg(dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(START_TIMEOUT, ready)
        .await
        .map_err(|_| failed(format!("not ready after {START_TIMEOUT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(match words.trim() {
        "" => output.status.to_string(),
        words => words.to_owned(),
    }))
}

pub struct ShimConnection {
    stream: UnixStream,
    input: Vec<u8>,
}

impl ShimConnection {
    /// Through a descriptor of the directory: the path of the socket itself
    /// may be longer than a socket address.
    pub async fn open(dir: &Path) -> io::Result<ShimConnection> {
        let dir = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd());
        Ok(ShimConnection {
            stream: UnixStream::connect(path).await?,
            input: Vec::new(),
        })
    }

    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        let frame = wire::encode(request).map_err(io::Error::other)?;
        self.stream.write_all(&frame).await
    }

    /// The descriptors, at most three, go with the first bytes.
    pub async fn send_with(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = wire::encode(request).map_err(io::Error::other)?;
        let sent = self
            .stream
            .async_io(Interest::WRITABLE, || {
                let mut space =
                    [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                control.push(SendAncillaryMessage::ScmRights(fds));
                let sent = sendmsg(
                    &self.stream,
                    &[io::IoSlice::new(&frame)],
                    &mut control,
                    SendFlags::NOSIGNAL,
                )?;
                Ok(sent)
            })
            .await?;
        self.stream.write_all(&frame[sent..]).await
    }

    /// `None` at the end of the stream: the supervisor is gone.
    pub async fn receive(&mut self) -> io::Result<Option<Reply>> {
        loop {
            if let Some(reply) = wire::decode(&mut self.input).map_err(io::Error::other)? {
                return Ok(Some(reply));
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    pub async fn call(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request).await?;
        self.receive()
            .await?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

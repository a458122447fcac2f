//! One more process in a running container.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;
use vetch_shim::protocol::{Exec, Reply, Request};

use super::Runtime;
use super::container::{state_name, unexpected};
use crate::Error;
use crate::shim::ShimConnection;
use crate::types::*;

/// For what may take as long as it takes: more than kernel and runtime can count would be an error.
pub const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// More of a probe's output is read and thrown away.
const MAX_OUTPUT: usize = 1 << 20;
/// pipe(7), unless somebody changes it.
const PIPE_SIZE: usize = 64 * 1024;

/// When what somebody gave so much time has to be over: however much it is, the clock can count to it.
pub fn deadline(limit: Duration) -> Instant {
    Instant::now() + limit.min(NO_LIMIT)
}

/// Killed when dropped.
pub struct ExecProcess {
    connection: ShimConnection,
    sandbox: SandboxId,
}

impl std::fmt::Debug for ExecProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecProcess").finish_non_exhaustive()
    }
}

impl ExecProcess {
    /// Its exit code; 128 + signal when killed by one. May be dropped and
    /// called again.
    pub async fn wait(&mut self) -> Result<i32, Error> {
        match self.connection.receive().await {
            Ok(Some(Reply::Exited { exit_code })) => Ok(exit_code),
            Ok(Some(other)) => Err(unexpected(&self.sandbox, &other)),
            Ok(None) | Err(_) => Err(Error::ShimGone(self.sandbox.clone())),
        }
    }
}

impl Runtime {
    /// With descriptors of the caller's, which may be closed when this returns.
    pub async fn exec_process(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        stdio: [OwnedFd; 3],
    ) -> Result<ExecProcess, Error> {
        self.begin(id, argv, false, &stdio).await
    }

    /// In a terminal of its own, in the container's /dev/pts; its master.
    pub async fn exec_terminal(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
    ) -> Result<(ExecProcess, OwnedFd), Error> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| Error::io("making a", "socketpair")(error.into()))?;
        let process = self.begin(id, argv, true, &[theirs]).await?;
        // It was sent before the program ran.
        let master = take_master(&ours)
            .map_err(|error| Error::Exec(format!("taking its terminal over: {error}")))?;
        Ok((process, master))
    }

    async fn begin(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        tty: bool,
        fds: &[OwnedFd],
    ) -> Result<ExecProcess, Error> {
        let request = Request::Exec(Exec {
            container: id.0.clone(),
            args: argv,
            env: if tty {
                vec![("TERM".into(), "xterm".into())]
            } else {
                Vec::new()
            },
            tty,
        });
        let (connection, sandbox) = self
            .hand_over(id, &request, fds)
            .await?
            .map_err(Error::Exec)?;
        Ok(ExecProcess {
            connection,
            sandbox,
        })
    }

    /// A request with descriptors about a container that runs. The connection
    /// stands for what was begun; the inner error is the supervisor's words.
    pub(super) async fn hand_over(
        &self,
        id: &ContainerId,
        request: &Request,
        fds: &[OwnedFd],
    ) -> Result<Result<(ShimConnection, SandboxId), String>, Error> {
        let (sandbox, status) = self.find(id)?;
        if status.state != ContainerState::Running {
            return Err(Error::WrongState {
                id: id.clone(),
                state: state_name(status.state),
                wanted: "running",
            });
        }
        let asked = async {
            let mut connection = ShimConnection::open(&self.dir(&sandbox)).await?;
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            connection.send_with(request, &fds).await?;
            let reply = connection.receive().await?;
            Ok::<_, io::Error>((connection, reply))
        };
        match asked.await {
            Ok((connection, Some(Reply::Started { .. }))) => Ok(Ok((connection, sandbox))),
            Ok((_, Some(Reply::Failed { message }))) => Ok(Err(message)),
            Ok((_, Some(other))) => Err(unexpected(&sandbox, &other)),
            Ok((_, None)) | Err(_) => Err(Error::ShimGone(sandbox)),
        }
    }

    /// Runs to the end and collects what it says. After `timeout` it is killed.
    pub async fn exec(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput, Error> {
        let pipe = || {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| Error::io("making a", "pipe")(error.into()))?;
            rustix::io::ioctl_fionbio(&reader, true)
                .map_err(|error| Error::io("making a", "pipe")(error.into()))?;
            let reader = Receiver::from_owned_fd(reader).map_err(Error::io("making a", "pipe"))?;
            Ok::<_, Error>((reader, writer))
        };
        let null = std::fs::File::open("/dev/null").map_err(Error::io("opening", "/dev/null"))?;
        let (mut stdout, stdout_writer) = pipe()?;
        let (mut stderr, stderr_writer) = pipe()?;
        let mut output = ExecOutput::default();
        let deadline = deadline(timeout);
        let started = self.exec_process(id, argv, [null.into(), stdout_writer, stderr_writer]);
        let mut process = match tokio::time::timeout_at(deadline, started).await {
            Ok(process) => process?,
            Err(_) => {
                output.timed_out = true;
                return Ok(output);
            }
        };
        let exit = {
            let wait = process.wait();
            let read = async {
                tokio::join!(
                    collect(&mut stdout, &mut output.stdout),
                    collect(&mut stderr, &mut output.stderr)
                );
                // Both closed, yet it may run on.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                code = wait => Some(code?),
                () = read => None,
                () = tokio::time::sleep_until(deadline) => None,
            }
        };
        // What it left in the pipes; a child of its own may hold them open.
        take_rest(&stdout, &mut output.stdout);
        take_rest(&stderr, &mut output.stderr);
        match exit {
            Some(code) => output.exit_code = code,
            None => output.timed_out = true,
        }
        Ok(output)
    }
}

fn take_master(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(
        socket,
        &mut [io::IoSliceMut::new(&mut [0])],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let master = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    master.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn collect(pipe: &mut Receiver, into: &mut Vec<u8>) {
    let mut bytes = [0; 8192];
    while let Ok(length @ 1..) = pipe.read(&mut bytes).await {
        keep(&bytes[..length], into);
    }
}

/// What is in the pipe now: one that somebody goes on filling has no end.
fn take_rest(pipe: &Receiver, into: &mut Vec<u8>) {
    let mut bytes = vec![0; PIPE_SIZE];
    let mut left = PIPE_SIZE;
    while left > 0
        && let Ok(length @ 1..) = rustix::io::read(pipe.as_fd(), &mut bytes[..left])
    {
        keep(&bytes[..length], into);
        left -= length;
    }
}

fn keep(bytes: &[u8], into: &mut Vec<u8>) {
    let room = MAX_OUTPUT - into.len();
    into.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_long_is_a_moment() {
        let ask = |limit: Duration| {
            let before = Instant::now();
            (deadline(limit) - before, before.elapsed())
        };
        for (limit, want) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::from_secs(30), Duration::from_secs(30)),
            (NO_LIMIT, NO_LIMIT),
            (NO_LIMIT + Duration::from_secs(1), NO_LIMIT),
            // What CRI's timeout and a pod's seconds may be.
            (Duration::from_secs(i64::MAX.unsigned_abs()), NO_LIMIT),
            (Duration::MAX, NO_LIMIT),
        ] {
            let (left, took) = ask(limit);
            assert!(left >= want && left <= want + took, "{limit:?}: {left:?}");
        }
    }
}

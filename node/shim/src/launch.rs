//! Forking a container's first process, or one more into it.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use vetch_shim::protocol::{
    BUNDLE_FILE, Bundle, CONTAINER_DIR, Exec, ROOTFS_DIR, SHM_DIR, ShimConfig,
};

use crate::container::{Job, Stdio, Streams, become_process};
use crate::failure::{Context, Failure};
use crate::sandbox::Sandbox;
use crate::sys;

/// A child between fork and exec, and our ends of its descriptors.
pub struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Says what went wrong, or closes when the program runs.
    pub sync: OwnedFd,
    /// Standard output and error; none with a terminal.
    pub output: Option<(OwnedFd, OwnedFd)>,
    pub stdin: Option<OwnedFd>,
}

pub fn read_bundle(container: &str) -> Result<Bundle, Failure> {
    if container.is_empty() || container.contains(['/', '.']) {
        return Err(Failure(format!("invalid container id {container:?}")));
    }
    let path = Path::new(CONTAINER_DIR).join(container).join(BUNDLE_FILE);
    let text = std::fs::read(&path).context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure(format!("reading {}: {error}", path.display())))
}

/// `target`: the first process of the container whose PID namespace it joins.
pub fn start(
    container: &str,
    bundle: &Bundle,
    config: &ShimConfig,
    sandbox: &Sandbox,
    target: Option<&OwnedFd>,
) -> Result<Launched, Failure> {
    let rootfs = Path::new(CONTAINER_DIR).join(container).join(ROOTFS_DIR);
    let shm = Path::new(if config.host_ipc { "/dev/shm" } else { SHM_DIR });
    let (stdio, output, stdin) = if bundle.tty {
        (None, None, None)
    } else {
        let (stdio, stdout, stderr, stdin) = pipes(bundle.stdin)?;
        (Some(stdio), Some((stdout, stderr)), stdin)
    };
    let pod_init = sandbox.pod_init.as_ref().map(|(_, pidfd)| pidfd);
    let pid_namespace = target.or(pod_init).map(AsFd::as_fd);
    let own_processes = !config.host_pid && pid_namespace.is_none();
    let mut flags = libc::CLONE_NEWNS;
    // One that belongs to a user namespace is made when that is joined.
    if own_processes && sandbox.users.is_none() {
        flags |= libc::CLONE_NEWPID;
    }
    let job = Job::Start {
        rootfs: &rootfs,
        shm,
        stdio,
        own_processes,
    };
    let (pid, pidfd, sync) = fork(flags, bundle, sandbox, pid_namespace, job)?;
    Ok(Launched {
        pid,
        pidfd,
        sync,
        output,
        stdin,
    })
}

pub fn exec(
    target: &OwnedFd,
    bundle: &Bundle,
    config: &ShimConfig,
    sandbox: &Sandbox,
    request: &Exec,
    streams: Streams,
) -> Result<Launched, Failure> {
    let pid_namespace = (!config.host_pid).then(|| target.as_fd());
    let job = Job::Exec {
        target: target.as_fd(),
        request,
        streams,
    };
    let (pid, pidfd, sync) = fork(0, bundle, sandbox, pid_namespace, job)?;
    Ok(Launched {
        pid,
        pidfd,
        sync,
        output: None,
        stdin: None,
    })
}

fn fork(
    flags: libc::c_int,
    bundle: &Bundle,
    sandbox: &Sandbox,
    pid_namespace: Option<std::os::fd::BorrowedFd<'_>>,
    job: Job<'_>,
) -> Result<(i32, OwnedFd, OwnedFd), Failure> {
    let cgroup =
        File::open(&bundle.cgroup).context(|| format!("cgroup {}", bundle.cgroup.display()))?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .context(|| "socketpair".into())?;
    if let Some(target) = pid_namespace {
        setns(target, CloneFlags::CLONE_NEWPID).context(|| "joining the PID namespace".into())?;
    }
    let cloned = sys::clone3(flags, Some(cgroup.as_fd()));
    if let Ok(sys::Cloned::Child) = cloned {
        drop(ours);
        drop(cgroup);
        become_process(bundle, job, sandbox.users.as_ref(), &theirs);
    }
    if pid_namespace.is_some() {
        setns(&sandbox.own_pid_namespace, CloneFlags::CLONE_NEWPID)
            .context(|| "leaving the PID namespace".into())?;
    }
    match cloned.context(|| "fork".into())? {
        sys::Cloned::Parent { pid, pidfd } => Ok((pid, pidfd, ours)),
        sys::Cloned::Child => sys::exit_now(128),
    }
}

type Pipes = (Stdio, OwnedFd, OwnedFd, Option<OwnedFd>);

/// The child's three, then our ends.
fn pipes(keep_stdin: bool) -> Result<Pipes, Failure> {
    let step = || "pipe".to_owned();
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context(step);
    let (stdout, stdout_writer) = pipe()?;
    let (stderr, stderr_writer) = pipe()?;
    for ours in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(ours, true).context(step)?;
    }
    let (stdin_reader, stdin) = if keep_stdin {
        let (reader, writer) = pipe()?;
        rustix::io::ioctl_fionbio(&writer, true).context(step)?;
        (reader, Some(writer))
    } else {
        let null = OpenOptions::new()
            .read(true)
            .open("/dev/null")
            .context(step)?;
        (OwnedFd::from(null), None)
    };
    let stdio = Stdio {
        stdin: stdin_reader,
        stdout: stdout_writer,
        stderr: stderr_writer,
    };
    Ok((stdio, stdout, stderr, stdin))
}

//! Inside a new container process: from fork to exec.
//!
//! Everything here runs in the child, in mount (and PID) namespaces of its
//! own, so that whatever it mounts vanishes with the container.

mod apparmor;
mod console;
mod filesystems;
mod image;
mod mounts;
mod overlay;
mod privileges;
mod program;
mod propagation;
mod rootfs;
mod user;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vetch_shim::protocol::{Bundle, Exec, Identity};

use crate::failure::{Context, Failure};
use crate::sys;
use crate::users::{self, Users};
use apparmor::Confinement;

/// First byte of what the child says to the supervisor before it execs.
pub const SAYS_CONSOLE: u8 = b'C';
pub const SAYS_ERROR: u8 = b'E';
pub const SAYS_USER: u8 = b'U';
/// With its pidfd: from now on the container's first process is that one.
pub const SAYS_PROCESS: u8 = b'P';

/// How long a message is at most, in bytes.
pub const MAX_SAID: usize = 2048;

/// The child's ends of its standard descriptors.
pub struct Stdio {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What a process of an exec gets for its standard descriptors.
pub enum Streams {
    Given(Stdio),
    /// A terminal, whose master is sent to this socket.
    Terminal(OwnedFd),
}

pub enum Job<'a> {
    /// A container's first process. `None`: it gets a terminal of its own.
    Start {
        rootfs: &'a Path,
        shm: &'a Path,
        stdio: Option<Stdio>,
        /// A PID namespace of its own.
        own_processes: bool,
    },
    /// One more process in a running container, whose first one `target` is.
    Exec {
        target: BorrowedFd<'a>,
        request: &'a Exec,
        streams: Streams,
    },
}

/// Becomes the container's program, or tells `sync` why not.
pub fn become_process(bundle: &Bundle, job: Job<'_>, users: Option<&Users>, sync: &OwnedFd) -> ! {
    let failure = match prepare(bundle, job, users, sync) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let mut message = vec![SAYS_ERROR];
    message.extend_from_slice(failure.0.as_bytes());
    // The supervisor sees the end of the socket in any case.
    let _ = rustix::net::send(sync, &message, SendFlags::NOSIGNAL);
    sys::exit_now(128)
}

fn prepare(
    bundle: &Bundle,
    job: Job<'_>,
    users: Option<&Users>,
    sync: &OwnedFd,
) -> Result<std::convert::Infallible, Failure> {
    sys::reset_signals().context(|| "resetting signals".into())?;
    // Until exec it holds descriptors of the supervisor's: nobody in the
    // container may reach them through /proc, or trace it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .context(|| "dumpable".into())?;
    rustix::process::setsid().context(|| "setsid".into())?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Lowering it may be refused; a container is no worse for it.
    if let Some(score) = bundle.oom_score_adj {
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    let mut env = bundle.env.clone();
    let is_first = matches!(job, Job::Start { .. });
    let confinement;
    let args = match job {
        Job::Start {
            rootfs,
            shm,
            stdio,
            own_processes,
        } => {
            let taken = rootfs::take(bundle, rootfs, shm, users)?;
            match users {
                Some(users) => {
                    if let Some(stdio) = &stdio {
                        stdio.give_to(users);
                    }
                    users.join()?;
                    users::own_namespaces(own_processes, |pid, pidfd| {
                        say_process(sync, pid, pidfd)
                    })?;
                }
                None => {
                    unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "cgroup namespace".into())?;
                }
            }
            confinement = Confinement::of(bundle)?;
            rootfs::enter(bundle, rootfs, taken)?;
            match stdio {
                Some(stdio) => become_stdio(stdio)?,
                None => send_console(sync, console::open_first()?)?,
            }
            &bundle.args
        }
        Job::Exec {
            target,
            request,
            streams,
        } => {
            if let (Some(users), Streams::Given(stdio)) = (users, &streams) {
                stdio.give_to(users);
            }
            let mut namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
            if users.is_some() {
                namespaces |= CloneFlags::CLONE_NEWUSER;
            }
            confinement = Confinement::of(bundle)?;
            setns(target, namespaces).context(|| "joining the container's namespaces".into())?;
            if users.is_some() {
                users::become_root()?;
            }
            match streams {
                Streams::Given(stdio) => become_stdio(stdio)?,
                Streams::Terminal(to) => send_console(&to, console::open()?)?,
            }
            program::merge_env(&mut env, &request.env);
            &request.args
        }
    };
    let account = user::resolve(&bundle.user)?;
    if is_first {
        say_user(sync, &account.ids);
    }
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".into(), account.home.clone()));
    }
    own_stdio(account.ids.uid);
    confinement.set_on_exec()?;
    // Root may enter what the user may not and the other way round (NFS).
    let entered = rustix::process::chdir(bundle.cwd.as_str());
    privileges::drop_to(&account.ids, bundle)?;
    if entered.is_err() {
        rustix::process::chdir(bundle.cwd.as_str())
            .context(|| format!("chdir to cwd ({:?}) set in config.json failed", bundle.cwd))?;
    }
    let program = program::find(args, &env)?;
    // Changing the user cleared it; a container does not outlive its supervisor.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context(|| "parent death signal".into())?;
    if orphaned(sync) {
        return Err(Failure("the supervisor is gone".into()));
    }
    sys::close_on_exec_from(3).context(|| "closing descriptors".into())?;
    program.exec(args, &env, bundle.seccomp.as_ref())
}

/// More than a message takes is not told.
fn say_user(sync: &OwnedFd, ids: &Identity) {
    let Ok(text) = serde_json::to_vec(ids) else {
        return;
    };
    if text.len() < MAX_SAID {
        let message = [&[SAYS_USER], text.as_slice()].concat();
        // The supervisor sees the end of the socket in any case.
        let _ = rustix::net::send(sync, &message, SendFlags::NOSIGNAL);
    }
}

/// Whether the supervisor died before the death signal was set.
fn orphaned(sync: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(sync, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

fn become_stdio(stdio: Stdio) -> Result<(), Failure> {
    let step = || "standard descriptors".to_owned();
    rustix::stdio::dup2_stdin(stdio.stdin).context(step)?;
    rustix::stdio::dup2_stdout(stdio.stdout).context(step)?;
    rustix::stdio::dup2_stderr(stdio.stderr).context(step)
}

impl Stdio {
    /// To the pod's root, who may then give them on.
    fn give_to(&self, users: &Users) {
        let root = users.map.host_id;
        for fd in [&self.stdin, &self.stdout, &self.stderr] {
            own(fd.as_fd(), root, Some(root));
        }
    }
}

/// /dev/stdout must open again for a user that is not root.
fn own_stdio(uid: u32) {
    for fd in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        own(fd, uid, None);
    }
}

/// /dev/null is everybody's already; a terminal and a pipe are not.
fn own(fd: BorrowedFd<'_>, uid: u32, gid: Option<u32>) {
    let pipe = rustix::fs::fstat(fd).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo
    });
    if pipe || rustix::termios::isatty(fd) {
        let (uid, gid) = (Uid::from_raw(uid), gid.map(Gid::from_raw));
        let _ = rustix::fs::fchown(fd, Some(uid), gid);
    }
}

/// Only a supervisor that is gone does not hear it.
fn say_process(sync: &OwnedFd, pid: i32, pidfd: &OwnedFd) -> Result<(), Failure> {
    let message = [&[SAYS_PROCESS], pid.to_ne_bytes().as_slice()].concat();
    send_fd(sync, &message, pidfd.as_fd()).context(|| "handing the process over".into())
}

fn send_console(to: &OwnedFd, master: OwnedFd) -> Result<(), Failure> {
    send_fd(to, &[SAYS_CONSOLE], master.as_fd()).context(|| "handing the console over".into())
}

fn send_fd(to: &OwnedFd, message: &[u8], fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        to,
        &[std::io::IoSlice::new(message)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

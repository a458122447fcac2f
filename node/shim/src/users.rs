//! The pod's user namespace: what is root in it is nobody on the node.
//!
//! ```text
//! supervisor        stays the node's root, in the pod's other namespaces
//!  ├ vetch-init     born with the user namespace and those it owns (clone(2)
//!  │                promises that order); killed when they are taken, unless
//!  │                its PID namespace is the pod's
//!  └ container      takes mounts and mounts layers as the node's root, then joins,
//!     │             and forks
//!     └ container   a child of the supervisor's too; mount, PID and cgroup
//!                   namespaces of its own belong to the user namespace
//! ```
//!
//! The owner of a namespace says who may change it, so the pod's root may mount,
//! set sysctls and names there (user_namespaces(7)). Files keep the owners that
//! they have on disk, whatever the pod's range is: mounts are idmapped
//! (mount_setattr(2), 5.12; tmpfs takes it since 6.3). Only what a container
//! writes into its own root file system is the mapped user's on disk.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Uid, WaitOptions, waitpid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use vetch_shim::protocol::IdMap;

use crate::failure::{Context, Failure};
use crate::sys;

pub struct Users {
    pub namespace: OwnedFd,
    pub map: IdMap,
}

/// The process that was born with a user namespace.
pub struct First {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

impl Users {
    /// Makes it, and `others` that belong to it, around a process that then runs
    /// `life` as its root.
    pub fn make(
        map: IdMap,
        others: CloneFlags,
        life: fn() -> !,
    ) -> Result<(Users, First), Failure> {
        let (mapped, say_mapped) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe".into())?;
        let flags = libc::CLONE_NEWUSER | others.bits();
        let first = match sys::clone3(flags, None).context(|| "user namespace".into())? {
            sys::Cloned::Parent { pid, pidfd } => First { pid, pidfd },
            sys::Cloned::Child => {
                drop(say_mapped);
                let _ = io::Read::read(&mut File::from(mapped), &mut [0]);
                match become_root() {
                    Ok(()) => life(),
                    Err(_) => sys::exit_now(1),
                }
            }
        };
        drop(mapped);
        match take(map, &first) {
            Ok(namespace) => Ok((Users { namespace, map }, first)),
            Err(failure) => {
                first.end();
                Err(failure)
            }
        }
    }

    /// From here on the calling process may do in the pod what root may, and on
    /// the node nothing.
    pub fn join(&self) -> Result<(), Failure> {
        setns(&self.namespace, CloneFlags::CLONE_NEWUSER)
            .context(|| "joining the user namespace".into())?;
        become_root()
    }

    /// Runs `act` with the user id of the pod's root, as sysctls of its IPC
    /// namespace want it since 6.9.
    pub fn as_root<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let root = Uid::ROOT;
        set_thread_res_uid(root, Uid::from_raw(self.map.host_id), root)?;
        let done = act();
        set_thread_res_uid(root, root, root)?;
        done
    }
}

impl First {
    /// The namespaces stay as long as somebody holds them.
    pub fn end(self) {
        let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = waitpid(Pid::from_raw(self.pid), WaitOptions::empty());
    }
}

fn take(map: IdMap, first: &First) -> Result<OwnedFd, Failure> {
    let IdMap { host_id, length } = map;
    for name in ["uid_map", "gid_map"] {
        fs::write(
            format!("/proc/{}/{name}", first.pid),
            format!("0 {host_id} {length}\n"),
        )
        .context(|| format!("{name}: 0 {host_id} {length}"))?;
    }
    File::open(format!("/proc/{}/ns/user", first.pid))
        .map(OwnedFd::from)
        .context(|| "opening the user namespace".into())
}

/// In the user namespace, whose capabilities the process has already.
pub fn become_root() -> Result<(), Failure> {
    let step = || "becoming root of the user namespace".to_owned();
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).context(step)?;
    set_thread_groups(&[]).context(step)?;
    set_thread_res_uid(uid, uid, uid).context(step)
}

/// Namespaces that belong to the joined user namespace: mount and cgroup, and
/// with `own_processes` PID, where it returns in a new process. `hand_over` tells
/// the supervisor of it, before it does anything.
pub fn own_namespaces(
    own_processes: bool,
    hand_over: impl FnOnce(i32, &OwnedFd) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let step = || "namespaces of the container".to_owned();
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    if !own_processes {
        return unshare(CloneFlags::from_bits_truncate(flags)).context(step);
    }
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).context(|| "pipe".into())?;
    let flags = flags | libc::CLONE_NEWPID | libc::CLONE_PARENT;
    match sys::clone3(flags, None).context(step)? {
        sys::Cloned::Parent { pid, pidfd } => {
            hand_over(pid, &pidfd)?;
            // Whoever is not known to the supervisor must not run.
            let _ = rustix::io::write(&tell, &[1]);
            sys::exit_now(0)
        }
        sys::Cloned::Child => {
            drop(tell);
            if rustix::io::read(&told, &mut [0; 1]) != Ok(1) {
                sys::exit_now(128);
            }
            // That of its maker ends here.
            rustix::process::setsid().context(|| "setsid".into())?;
            Ok(())
        }
    }
}

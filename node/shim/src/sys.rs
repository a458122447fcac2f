//! System calls without a safe wrapper: every `unsafe` of the supervisor.
#![expect(unsafe_code, reason = "the one door to raw system calls")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vetch_shim::protocol::Filter;

/// libc's constant is a c_int, which it does not fit.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub enum Cloned {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// fork(2) with namespaces, born in `cgroup` (5.7+). With CLONE_PARENT the child
/// is the parent's, and tells it of its end as the calling process would.
pub fn clone3(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers; zero is every field's "none".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    if flags & libc::CLONE_PARENT == 0 {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets a copy of memory, as after fork;
    // the process has one thread, so no lock can be held by another.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            std::mem::size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    Ok(Cloned::Parent {
        pid: pid as i32,
        // SAFETY: CLONE_PIDFD made this descriptor for us alone.
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    })
}

/// Any signal number, the real-time ones too.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed; the descriptor is borrowed and alive.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })?;
    Ok(())
}

/// Attributes and propagation of a mount by descriptor (5.12+).
pub fn mount_setattr(
    mount: impl AsFd,
    recursive: bool,
    set: u64,
    propagation: u64,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    set_mount_attributes(mount, recursive, &attr)
}

/// Owners of a mount's files are seen as `users` maps them: of one that nobody
/// has seen yet, on a file system that can (5.12+).
pub fn mount_idmapped(mount: impl AsFd, recursive: bool, users: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    set_mount_attributes(mount, recursive, &attr)
}

fn set_mount_attributes(
    mount: impl AsFd,
    recursive: bool,
    attr: &libc::mount_attr,
) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and the attribute outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            std::mem::size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// No descriptor from `first` on survives exec (5.11+).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    })?;
    Ok(())
}

/// Closes every descriptor over 2. To be called before the process has opened
/// anything itself, or where it will never touch what it inherited.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: called first in main, and in a child that never returns to the
    // owners of its descriptors.
    check(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })?;
    Ok(())
}

/// Whoever started the daemon may ignore some (nohup does SIGHUP), and that
/// would pass to every container. SIGPIPE stays as the Rust runtime has it.
pub fn forget_ignored_signals() {
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: SIG_DFL installs no handler. SIGKILL, SIGSTOP and the two
        // that glibc keeps for itself are refused, and stay as they are.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Default dispositions and no mask, as a program expects at its start: the
/// Rust runtime ignores SIGPIPE and the supervisor blocks what it polls for.
pub fn reset_signals() -> io::Result<()> {
    // SAFETY: SIG_DFL installs no handler; the set is initialised by sigemptyset.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into())?;
    }
    Ok(())
}

/// False when the kernel knows no such capability.
pub fn bounding_set_has(capability: u32) -> Option<bool> {
    // SAFETY: reads a bit.
    let has = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
    (has >= 0).then_some(has == 1)
}

pub fn drop_from_bounding_set(capability: u32) -> io::Result<()> {
    // SAFETY: takes an integer.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into())?;
    Ok(())
}

/// From here on, every system call of this process and of what it becomes goes
/// through `filter`. Wants no_new_privs or CAP_SYS_ADMIN.
pub fn filter_calls(filter: &Filter) -> io::Result<()> {
    let mut statements: Vec<libc::sock_filter> = filter
        .program
        .iter()
        .map(|instruction| libc::sock_filter {
            code: instruction.0,
            jt: instruction.1,
            jf: instruction.2,
            k: instruction.3,
        })
        .collect();
    let len =
        u16::try_from(statements.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog {
        len,
        filter: statements.as_mut_ptr(),
    };
    // SAFETY: `len` statements live until the call returns, which copies them.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const program,
        )
    })?;
    Ok(())
}

/// Leaves at once, without the destructors and buffers shared with the parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

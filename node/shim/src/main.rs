//! vetch-shim: supervises one pod.
//!
//! Started by the node daemon, it leaves it at once: own session, own cgroup,
//! no thread, no inherited descriptor. It makes the pod's namespaces around
//! itself, forks the containers, writes their logs, keeps their exit codes,
//! and answers on a socket. A daemon that comes back finds it by the sandbox
//! directory (see `vetch_shim::protocol`).
//!
//! Usage: `vetch-shim DIR`; returns when the sandbox is ready, its supervisor
//! runs on in the background.
//!
//! ```text
//! vetch-shim DIR           lock, clone3 into the pod's cgroup, wait for "ready"
//!  └ supervisor            namespaces, bind mounts, socket; then one poll loop over
//!     │                    requests, children's sync sockets, pipes, SIGCHLD
//!     ├ vetch-init          only for a PID namespace that containers share: reaps
//!     ├ container           clone3 with mount (and PID) namespace, in its cgroup:
//!     │                     overlay, pivot_root, /proc /sys /dev, volumes, masks,
//!     │                     user, capabilities, exec
//!     └ exec                setns into a container, then the same end
//! ```
//!
//! A child speaks on its sync socket until exec closes it: an error in words,
//! or its console, which of an exec goes to who asked for it. All children die with the supervisor.
//!
//! With a user namespace (`users.rs`) all of it belongs to that, and a container
//! is a second fork.
//!
//! A filter of system calls comes with the bundle and is set right before exec, and
//! the name of an AppArmor profile that begins with it. Where no cgroup decides on devices, nodes other
//! than the default ones do not open in containers, because all their mounts are
//! `nodev`.

mod connection;
mod container;
mod failure;
mod launch;
mod log;
mod sandbox;
mod supervisor;
mod sys;
mod users;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{FlockOperation, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use vetch_shim::protocol::{CONFIG_FILE, DEAD_FILE, LOCK_FILE, LOG_FILE, SOCKET_FILE, ShimConfig};

use failure::{Context, Failure, complain};
use sandbox::Sandbox;
use supervisor::Supervisor;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: vetch-shim DIR");
        return ExitCode::from(2);
    };
    if dir == "--version" {
        println!("vetch-shim {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match start(Path::new(&dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(failure);
            ExitCode::FAILURE
        }
    }
}

/// The first process: starts the second in the pod's cgroup and waits until
/// it is ready.
fn start(dir: &Path) -> Result<(), Failure> {
    sys::close_inherited().context(|| "closing descriptors".into())?;
    sys::forget_ignored_signals();
    std::env::set_current_dir(dir).context(|| format!("chdir {}", dir.display()))?;
    let config = fs::read(CONFIG_FILE).context(|| format!("reading {CONFIG_FILE}"))?;
    let config: ShimConfig = serde_json::from_slice(&config)
        .map_err(|error| Failure(format!("reading {CONFIG_FILE}: {error}")))?;
    let lock = take_lock()?;
    let cgroup: Option<OwnedFd> = config
        .cgroup
        .as_ref()
        .map(|path| File::open(path).context(|| format!("cgroup {}", path.display())))
        .transpose()?
        .map(OwnedFd::from);
    let (reader, writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe".into())?;
    match sys::clone3(0, cgroup.as_ref().map(|fd| fd.as_fd())).context(|| "fork".into())? {
        sys::Cloned::Parent { .. } => {
            drop(writer);
            let mut answer = String::new();
            File::from(reader)
                .read_to_string(&mut answer)
                .context(|| "waiting for the supervisor".into())?;
            match answer.as_str() {
                "ready" => Ok(()),
                "" => Err(Failure(format!("it died, see {LOG_FILE}"))),
                _ => Err(Failure(answer)),
            }
        }
        sys::Cloned::Child => {
            drop(reader);
            drop(cgroup);
            supervise(&config, File::from(writer), &lock)
        }
    }
}

/// Held by the supervisor until it dies, so that the daemon can tell. The
/// daemon takes it to say that it no longer wants us.
fn take_lock() -> Result<File, Failure> {
    let lock = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOCK_FILE)
        .context(|| "opening the lock".into())?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .context(|| "the sandbox has another supervisor, or is being cleaned".into())?;
    if Path::new(DEAD_FILE).exists() {
        return Err(Failure("the daemon gave this sandbox up".into()));
    }
    Ok(lock)
}

fn supervise(config: &ShimConfig, mut ready: File, _lock: &File) -> ! {
    let supervisor = prepare(config);
    let mut supervisor = match supervisor {
        Ok(supervisor) => supervisor,
        Err(failure) => {
            sandbox::release();
            let _ = ready.write_all(failure.0.as_bytes());
            sys::exit_now(1)
        }
    };
    let _ = ready.write_all(b"ready");
    drop(ready);
    match supervisor.run() {
        Ok(()) => sys::exit_now(0),
        Err(failure) => {
            complain(failure);
            sys::exit_now(1)
        }
    }
}

fn prepare(config: &ShimConfig) -> Result<Supervisor, Failure> {
    rustix::process::setsid().context(|| "setsid".into())?;
    detach_stdio()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context(|| "child subreaper".into())?;
    // The last to be killed for memory, where that may be set.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    let signals = supervisor::block_signals()?;
    let sandbox = Sandbox::make(config)?;
    let _ = fs::remove_file(SOCKET_FILE);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .context(|| "socket".into())?;
    // Relative: the whole path may be longer than an address holds.
    let address = SocketAddrUnix::new(SOCKET_FILE).context(|| "socket address".into())?;
    bind(&socket, &address).context(|| "binding the socket".into())?;
    rustix::fs::chmod(SOCKET_FILE, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .context(|| "socket mode".into())?;
    listen(&socket, 64).context(|| "listening".into())?;
    Supervisor::new(config, sandbox, socket, signals)
}

fn detach_stdio() -> Result<(), Failure> {
    let step = || "standard descriptors".to_owned();
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context(step)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(LOG_FILE)
        .context(step)?;
    rustix::stdio::dup2_stdin(&null).context(step)?;
    rustix::stdio::dup2_stdout(&null).context(step)?;
    rustix::stdio::dup2_stderr(&log).context(step)
}

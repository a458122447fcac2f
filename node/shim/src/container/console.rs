//! A process's own terminal, in the container's devpts.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use super::mounts;
use crate::failure::{Context, Failure};

/// DEVPTS_SUPER_MAGIC
const DEVPTS: i64 = 0x1cd1;

/// Makes it the calling process's controlling terminal and standard
/// descriptors; returns the other end.
pub fn open() -> Result<OwnedFd, Failure> {
    make().map(|(master, _)| master)
}

/// As `open`, for a container's first process: programs that write to
/// /dev/console mean this terminal.
pub fn open_first() -> Result<OwnedFd, Failure> {
    let (master, slave) = make()?;
    let name = rustix::termios::ttyname(&slave, Vec::new()).context(step)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open("/dev/console")
        .context(step)?;
    let name = name.to_str().map_err(|_| Failure("console: name".into()))?;
    mounts::attach(
        &mounts::clone_tree(Path::new(name))?,
        Path::new("/dev/console"),
    )?;
    Ok(master)
}

fn make() -> Result<(OwnedFd, OwnedFd), Failure> {
    let master = rustix::fs::open(
        "/dev/pts/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(step)?;
    // A container that may mount could have put anything there.
    let found = rustix::fs::fstatfs(&master).context(step)?;
    if found.f_type != DEVPTS {
        return Err(Failure("console: /dev/pts is no devpts".into()));
    }
    unlockpt(&master).context(step)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .context(step)?;
    rustix::process::ioctl_tiocsctty(&slave).context(step)?;
    rustix::stdio::dup2_stdin(&slave).context(step)?;
    rustix::stdio::dup2_stdout(&slave).context(step)?;
    rustix::stdio::dup2_stderr(&slave).context(step)?;
    Ok((master, slave))
}

fn step() -> String {
    "console".to_owned()
}

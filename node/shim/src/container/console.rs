//! A container's own terminal.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use super::mounts;
use crate::failure::{Context, Failure};

/// Makes it in the container's devpts, the calling process's controlling
/// terminal and standard descriptors; returns the other end.
pub fn open() -> Result<OwnedFd, Failure> {
    let step = || "console".to_owned();
    let master = rustix::fs::open(
        "/dev/pts/ptmx",
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .context(step)?;
    unlockpt(&master).context(step)?;
    let slave = ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .context(step)?;
    rustix::process::ioctl_tiocsctty(&slave).context(step)?;

    // Programs that write to /dev/console mean this terminal.
    let name = rustix::termios::ttyname(&slave, Vec::new()).context(step)?;
    OpenOptions::new()
        .create(true)
        .append(true)
        .open("/dev/console")
        .context(step)?;
    let tree = mounts::clone_tree(std::path::Path::new(
        name.to_str().map_err(|_| Failure("console: name".into()))?,
    ))?;
    mounts::attach(&tree, std::path::Path::new("/dev/console"))?;

    rustix::stdio::dup2_stdin(&slave).context(step)?;
    rustix::stdio::dup2_stdout(&slave).context(step)?;
    rustix::stdio::dup2_stderr(&slave).context(step)?;
    Ok(master)
}

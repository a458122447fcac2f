//! Ctrl-C and its kin as something to wait for.
//!
//! Programs started while they are held back still get them: std clears the mask of its children.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

#[derive(Debug)]
pub struct Signals {
    file: SignalFd,
}

/// What the wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    Signal(Signal),
    Ready,
}

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP end waits, not this program.
    pub fn hold() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().context("hold signals back")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let file = SignalFd::with_flags(&set, flags).context("make a signal file")?;
        Ok(Signals { file })
    }

    /// Waits until `other` can be read or a signal is there.
    pub fn wait(&self, other: BorrowedFd<'_>) -> Result<Woken> {
        loop {
            if let Some(info) = self.file.read_signal()? {
                let number = i32::try_from(info.ssi_signo)?;
                return Ok(Woken::Signal(Signal::try_from(number)?));
            }
            let mut watched = [
                PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
                PollFd::new(other, PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait"),
            }
            if watched[1].any() == Some(true) {
                return Ok(Woken::Ready);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_files_both_end_the_wait() {
        let signals = Signals::hold().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(
            signals.wait(reader.as_fd()).unwrap(),
            Woken::Signal(Signal::SIGTERM)
        );
        drop(writer);
        assert_eq!(signals.wait(reader.as_fd()).unwrap(), Woken::Ready);
    }
}

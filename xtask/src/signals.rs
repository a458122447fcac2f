//! Ctrl-C and its kin as something to wait for.
//!
//! A program started while they are held back inherits that; one that must get them is started by
//! [`spawn`].

use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::time::Duration;

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
    Signal(Caught),
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caught {
    pub signal: Signal,
    /// By Ctrl-C or a lost terminal, so that the programs started here have got it too; not by a
    /// process: sigaction(2), `si_code`.
    pub from_terminal: bool,
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
            if let Some(woken) = self.look(other, PollTimeout::NONE)? {
                return Ok(woken);
            }
        }
    }

    /// The same, at most for this long.
    pub fn wait_for(&self, other: BorrowedFd<'_>, limit: Duration) -> Result<Option<Woken>> {
        self.look(
            other,
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX),
        )
    }

    /// None also when something else ended the wait.
    fn look(&self, other: BorrowedFd<'_>, limit: PollTimeout) -> Result<Option<Woken>> {
        let mut watched = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(other, PollFlags::POLLIN),
        ];
        match poll(&mut watched, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait"),
        }
        let ready = watched[1].any() == Some(true);
        if let Some(info) = self.file.read_signal()? {
            let number = i32::try_from(info.ssi_signo)?;
            return Ok(Some(Woken::Signal(Caught {
                signal: Signal::try_from(number)?,
                from_terminal: info.ssi_code > 0,
            })));
        }
        Ok(ready.then_some(Woken::Ready))
    }
}

/// Starts a program that gets every signal. std hands the mask of the calling thread on, so that a
/// thread with an empty one calls.
pub fn spawn(command: &mut Command) -> Result<Child> {
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            SigSet::empty().thread_set_mask()?;
            command.spawn()
        });
        match started.join() {
            Ok(child) => Ok(child?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_what_is_held_back_here() {
        let _signals = Signals::hold().unwrap();
        let free = |child: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let line = status.lines().find(|line| line.starts_with("SigBlk:"));
            line.unwrap().trim_end().ends_with("0000000000000000")
        };
        let mut child = spawn(Command::new("sleep").arg("60")).unwrap();
        let free = free(&child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(free, "signals are held back in the child");
    }

    #[test]
    fn signals_and_files_both_end_the_wait() {
        let signals = Signals::hold().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(
            signals.wait(reader.as_fd()).unwrap(),
            Woken::Signal(Caught {
                signal: Signal::SIGTERM,
                from_terminal: false,
            })
        );
        drop(writer);
        assert_eq!(signals.wait(reader.as_fd()).unwrap(), Woken::Ready);
    }
}

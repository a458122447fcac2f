//! A program in the foreground: its end, and the signals that go on to it.

use std::os::fd::AsFd as _;
use std::process::{Child, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::signals::{Signals, Woken};

/// How a program ended.
#[derive(Debug)]
pub struct End<T> {
    pub code: Option<i32>,
    /// By a signal of this program.
    pub interrupted: bool,
    /// What was found while it ran, for which it was ended.
    pub found: Option<T>,
}

/// The exit code of the program; signals of this one go on to it.
pub fn wait(child: Child, signals: &Signals) -> Result<i32> {
    // Nothing to look for, so nobody wakes for it.
    let end = wait_watching(child, signals, Duration::MAX, || None::<()>)?;
    Ok(end.code.unwrap_or(1))
}

/// The same, but the program is ended as soon as `look` finds something; it looks after every such
/// time, and once more at the end.
pub fn wait_watching<T>(
    mut child: Child,
    signals: &Signals,
    every: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<End<T>> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let raw = rustix::process::Pid::from_child(&child);
    let file = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        .context("watch the program")?;
    let mut interrupted = false;
    let found = loop {
        match signals.wait_for(file.as_fd(), every)? {
            Some(Woken::Ready) => break look(),
            Some(Woken::Signal(caught)) => {
                interrupted = true;
                // Twice is a different wish.
                if !caught.from_terminal {
                    let _ = kill(pid, caught.signal);
                }
            }
            None => {}
        }
        if let Some(found) = look() {
            let _ = kill(pid, Signal::SIGTERM);
            break Some(found);
        }
    };
    Ok(End {
        code: child.wait()?.code(),
        interrupted,
        found,
    })
}

pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::signals;

    #[test]
    fn a_signal_to_this_program_alone_goes_on() {
        let signals = Signals::hold().unwrap();
        let child = signals::spawn(Command::new("sleep").arg("60")).unwrap();
        nix::sys::signal::raise(Signal::SIGINT).unwrap();
        let end = wait_watching(child, &signals, Duration::MAX, || None::<()>).unwrap();
        assert!(end.interrupted);
        assert_eq!(end.code, None, "it ended by the signal");
    }
}

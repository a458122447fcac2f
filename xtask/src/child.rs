//! A program in the foreground: its end, and the signals that go on to it.

use std::os::fd::AsFd as _;
use std::process::{Child, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::signals::{Signals, Woken};

/// The exit code of the program; signals of this one go on to it.
pub fn wait(mut child: Child, signals: &Signals) -> Result<i32> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let raw = rustix::process::Pid::from_child(&child);
    let file = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        .context("watch the program")?;
    while let Woken::Signal(signal) = signals.wait(file.as_fd())? {
        // The terminal's goes to both, and twice is a different wish.
        if signal != Signal::SIGINT {
            let _ = kill(pid, signal);
        }
    }
    Ok(child.wait()?.code().unwrap_or(1))
}

pub fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

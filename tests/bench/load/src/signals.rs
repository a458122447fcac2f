//! The end by SIGTERM or SIGINT.

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

/// Ends the process at once with this code when told to. The signals are blocked and waited for,
/// because the first process of a PID namespace ignores what it has no handler for: call it before
/// there are other threads.
pub fn end_with(code: i32) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("block signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while signals.wait().is_err() {}
            std::process::exit(code);
        })
        .context("start the thread that waits for signals")?;
    Ok(())
}

//! Ctrl-C: the first asks for an end, the second is one.

use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What shells say of a program that a Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

/// Signals that come together.
const ONE_WISH: Duration = Duration::from_secs(1);

/// Cancels `stop` at SIGINT, SIGTERM or SIGHUP.
pub fn watch(stop: CancellationToken) -> Result<()> {
    let mut signals = Vec::new();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        signals.push(signal(kind).context("listen for signals")?);
    }
    tokio::spawn(async move {
        next(&mut signals).await;
        eprintln!("\nends: cleaning up and writing what was measured (once more: at once)");
        stop.cancel();
        // timeout(1) tells the program and then its whole group: that is one wish.
        let asked = Instant::now();
        while asked.elapsed() < ONE_WISH {
            next(&mut signals).await;
        }
        process::exit(INTERRUPTED.into());
    });
    Ok(())
}

async fn next(signals: &mut [tokio::signal::unix::Signal]) {
    let waits = signals.iter_mut().map(|signal| Box::pin(signal.recv()));
    futures::future::select_all(waits).await;
}

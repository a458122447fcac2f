//! Waiting on conditions, never on time alone.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How many times longer than stated every wait of this process may take.
static PATIENCE: AtomicU32 = AtomicU32::new(1);

/// Whether a wait of this process was in vain. Each scenario is a process of its own.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub(crate) fn given_up() -> bool {
    GIVEN_UP.load(Ordering::Relaxed)
}

/// The cluster is slower by this factor: an emulated one.
pub fn be_patient(factor: u32) {
    PATIENCE.fetch_max(factor, Ordering::Relaxed);
}

/// The limit as it is on the cluster that is used.
pub fn patient(limit: Duration) -> Duration {
    limit * PATIENCE.load(Ordering::Relaxed)
}

/// Calls `probe` until it answers, at most for `limit`; the last error is the one that is told.
pub fn eventually<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let limit = patient(limit);
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                GIVEN_UP.store(true, Ordering::Relaxed);
                return Err(error).with_context(|| format!("not within {limit:?}: {what}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

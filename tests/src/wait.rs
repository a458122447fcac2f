//! Waiting on conditions, never on time alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Calls `probe` until it answers, at most for `limit`; the last error is the one that is told.
pub fn eventually<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("not within {limit:?}: {what}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

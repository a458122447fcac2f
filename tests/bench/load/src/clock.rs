//! The two clocks: CLOCK_MONOTONIC, which all processes of a machine share, and CPU time.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Of CLOCK_MONOTONIC, or between two of it.
pub type Nanos = u64;

pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000_000_000;

pub fn now() -> Nanos {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// What this process has used so far, all threads, user and system: the clock behind getrusage.
pub fn cpu_micros() -> u64 {
    nanos(clock_gettime(ClockId::ProcessCPUTime)) / 1000
}

pub fn sleep_until(time: Nanos) {
    std::thread::sleep(Duration::from_nanos(time.saturating_sub(now())));
}

pub fn of_seconds(seconds: f64) -> Nanos {
    Duration::from_secs_f64(seconds)
        .as_nanos()
        .try_into()
        .unwrap_or(Nanos::MAX)
}

/// Neither clock is ever negative.
fn nanos(time: Timespec) -> Nanos {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec) * SECOND + part(time.tv_nsec)
}

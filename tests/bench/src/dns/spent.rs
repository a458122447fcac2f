//! CPU time of a process, looked at often, so that afterwards it is known of any time in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::service::daemon::{cpu_nanos, monotonic_micros};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// When (CLOCK_MONOTONIC), and how much by then.
pub type Look = (Duration, Duration);

pub struct Sampler {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Look>>>,
}

impl Sampler {
    pub fn start(pid: i32) -> Sampler {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let mut looks = Vec::new();
            loop {
                // Asked before the look: the last one is after all that was to be seen.
                let over = told.load(Ordering::Relaxed);
                let spent = Duration::from_nanos(cpu_nanos(pid)?);
                looks.push((Duration::from_secs_f64(monotonic_micros() / 1e6), spent));
                if over {
                    return Ok(looks);
                }
                std::thread::sleep(PAUSE);
            }
        });
        Sampler { over, thread }
    }

    pub fn stop(self) -> Result<Vec<Look>> {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the look at the daemon's CPU time died"))?
    }
}

/// On how many cores it was busy between two moments, of those that were looked at before and after both.
pub fn cores(looks: &[Look], from: Duration, to: Duration) -> Option<f64> {
    let spent = spent_by(looks, to)? - spent_by(looks, from)?;
    let time = to.checked_sub(from)?.as_secs_f64();
    (time > 0.0).then(|| spent / time)
}

/// In seconds, even between two looks.
fn spent_by(looks: &[Look], moment: Duration) -> Option<f64> {
    let behind = looks.iter().position(|(at, _)| *at >= moment)?;
    let (next, after) = looks[behind];
    if next == moment {
        return Some(after.as_secs_f64());
    }
    let (last, before) = *looks.get(behind.checked_sub(1)?)?;
    let part = (moment - last).as_secs_f64() / (next - last).as_secs_f64();
    Some(before.as_secs_f64() + part * (after.as_secs_f64() - before.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_known_of_every_time_between_looks() {
        let at = Duration::from_millis;
        // Idle, then one core, then two.
        let looks = [(0, 50), (1000, 50), (2000, 1050), (3000, 3050)];
        let looks = looks.map(|(when, spent)| (at(when), at(spent)));
        for (from, to, expected) in [
            (0, 1000, Some(0.0)),
            (1000, 2000, Some(1.0)),
            (1500, 2500, Some(1.5)),
            (2250, 2750, Some(2.0)),
            (0, 3000, Some(1.0)),
            (2500, 3001, None),
            (1000, 1000, None),
        ] {
            let found = cores(&looks, at(from), at(to));
            assert_eq!(found.is_some(), expected.is_some(), "{from} {to}");
            let differ = found.unwrap_or(0.0) - expected.unwrap_or(0.0);
            assert!(differ.abs() < 1e-9, "{from} {to}: {found:?}");
        }
        let late = &looks[1..];
        assert_eq!(cores(late, at(500), at(1500)), None);
        assert_eq!(cores(&[], at(0), at(1)), None);
    }

    #[test]
    fn this_process_is_seen_to_work() {
        let sampler = Sampler::start(i32::try_from(std::process::id()).unwrap());
        let until = std::time::Instant::now() + PAUSE * 6;
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let looks = sampler.stop().unwrap();
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
            panic!("nobody looked");
        };
        assert!(cores(&looks, first.0, last.0).unwrap() > 0.0, "{looks:?}");
    }
}

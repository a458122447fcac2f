//! What the whole machine spends while something is measured: processor time, and cycles where its
//! processors count them.

use std::fs;
use std::io;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::unistd::{SysconfVar, sysconf};
use perf_event::events::{Event, Hardware};
use perf_event::{Builder, Counter};

use super::daemon::TICKS_A_SECOND;

/// Reads what was spent so far.
pub struct Meter {
    cycles: Option<Counters>,
}

/// What was spent up to a moment.
pub struct Reading {
    at: Instant,
    busy_seconds: f64,
    cycles: Option<u64>,
}

/// What was spent in each second between two readings, summed over the processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub busy_seconds: f64,
    pub cycles: Option<f64>,
}

impl Meter {
    /// The error says why there are no cycles: most virtual machines have no counter of them.
    pub fn open() -> (Meter, Option<io::Error>) {
        match Counters::open(&Hardware::CPU_CYCLES) {
            Ok(counters) => {
                let cycles = Some(counters);
                (Meter { cycles }, None)
            }
            Err(error) => (Meter { cycles: None }, Some(error)),
        }
    }

    pub fn read(&mut self) -> Result<Reading> {
        let cycles = (self.cycles.as_mut().map(Counters::read).transpose())
            .context("read the processors' cycles")?;
        Ok(Reading {
            at: Instant::now(),
            busy_seconds: busy_seconds()?,
            cycles,
        })
    }
}

impl Reading {
    pub fn until(&self, later: &Reading) -> Usage {
        let seconds = (later.at - self.at).as_secs_f64();
        let cycles = self.cycles.zip(later.cycles);
        Usage {
            busy_seconds: (later.busy_seconds - self.busy_seconds) / seconds,
            cycles: cycles.map(|(from, to)| to.saturating_sub(from) as f64 / seconds),
        }
    }
}

/// One event, counted on every processor for whatever runs there: `perf_event_open(2)`.
struct Counters(Vec<Counter>);

impl Counters {
    fn open<E: Event + Clone>(event: &E) -> io::Result<Counters> {
        let count = |processor| {
            let mut counter = Builder::new(event.clone())
                .any_pid()
                .one_cpu(processor)
                .include_kernel()
                .build()?;
            counter.enable()?;
            Ok(counter)
        };
        (0..processors()?)
            .map(count)
            .collect::<io::Result<_>>()
            .map(Counters)
    }

    fn read(&mut self) -> io::Result<u64> {
        self.0.iter_mut().map(Counter::read).sum()
    }
}

/// Those that run, whichever of them this process may use.
fn processors() -> io::Result<usize> {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN)?;
    let online = online.and_then(|count| usize::try_from(count).ok());
    online.ok_or_else(|| io::Error::other("the number of processors is not known"))
}

/// Seconds that this machine's processors were busy, summed over them.
fn busy_seconds() -> Result<f64> {
    busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat is not as proc(5) says")
}

/// All but idle and iowait; guests' time is in that of their hosts.
fn busy(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .take(8)
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum::<f64>() - idle) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use perf_event::events::Software;

    use super::*;

    #[test]
    fn busy_time_is_read_as_documented() {
        let stat = "cpu  100 0 50 700 100 0 50 0 0 0\ncpu0 1 1\n";
        assert_eq!(busy(stat), Some(2.0));
        assert_eq!(busy("intr 1\n"), None);
    }

    #[test]
    fn what_was_spent_is_told_by_the_second() {
        let at = Instant::now();
        let reading = |seconds, busy_seconds, cycles| Reading {
            at: at + Duration::from_secs(seconds),
            busy_seconds,
            cycles,
        };
        let usage = reading(0, 10.0, Some(1_000)).until(&reading(4, 14.0, Some(9_000)));
        assert_eq!(usage.busy_seconds, 1.0);
        assert_eq!(usage.cycles, Some(2_000.0));
        let usage = reading(0, 0.0, None).until(&reading(1, 0.5, None));
        assert_eq!(usage.cycles, None);
    }

    /// With an event that every machine has: the clock of each processor, in nanoseconds.
    #[test]
    fn every_processor_is_counted_from_the_start() {
        let processors = processors().unwrap();
        let mut clocks = Counters::open(&Software::CPU_CLOCK).unwrap();
        let before = clocks.read().unwrap();
        let from = Instant::now();
        while from.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let counted = clocks.read().unwrap() - before;
        assert!(
            counted >= 20_000_000 * processors as u64,
            "{counted} ns on {processors} processors"
        );
    }

    #[test]
    fn the_meter_says_why_it_counts_no_cycles() {
        let (mut meter, why) = Meter::open();
        let reading = meter.read().unwrap();
        assert_eq!(reading.cycles.is_none(), why.is_some());
        assert!(reading.busy_seconds > 0.0);
    }
}

//! When the next request is due.

use crate::clock::{Nanos, SECOND};

#[derive(Clone, Debug)]
pub enum Pace {
    /// As soon as a connection is free.
    Closed,
    Open(Schedule),
}

/// Arrivals at constant intervals.
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Nanos,
    /// Between two arrivals, in nanoseconds.
    period: f64,
    /// Of the first one after the start, as a part of the period.
    phase: f64,
    /// Of the next one that nobody has taken.
    next: u64,
    /// When measuring begins.
    begin: Nanos,
}

impl Pace {
    /// The moment the next request counts from; none when there is none due now.
    pub fn take(&mut self, now: Nanos) -> Option<Nanos> {
        match self {
            Pace::Closed => Some(now),
            Pace::Open(schedule) => schedule.take(now),
        }
    }

    /// When [`Self::take`] will give one, where time brings it about.
    pub fn due(&self) -> Option<Nanos> {
        match self {
            Pace::Closed => None,
            Pace::Open(schedule) => Some(schedule.due()),
        }
    }
}

impl Schedule {
    /// The arrivals of one of several threads: together they are evenly spaced.
    pub fn share(rate: f64, index: usize, threads: usize, start: Nanos, begin: Nanos) -> Schedule {
        let threads = threads as f64;
        Schedule {
            start,
            period: SECOND as f64 * threads / rate,
            phase: index as f64 / threads,
            next: 0,
            begin,
        }
    }

    fn due(&self) -> Nanos {
        self.at(self.next)
    }

    fn at(&self, index: u64) -> Nanos {
        self.start + ((index as f64 + self.phase) * self.period) as Nanos
    }

    fn take(&mut self, now: Nanos) -> Option<Nanos> {
        // What the warm-up could not do is not done in the time that counts.
        if now >= self.begin && self.due() < self.begin {
            let first = (self.begin - self.start) as f64 / self.period - self.phase;
            self.next = first.ceil() as u64;
        }
        let due = self.due();
        if due > now {
            return None;
        }
        self.next += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MILLISECOND;

    const START: Nanos = 7_000 * SECOND;

    #[test]
    fn arrivals_are_due_at_constant_intervals_whenever_they_are_taken() {
        let mut pace = Pace::Open(Schedule::share(1000.0, 0, 1, START, START));
        assert_eq!(pace.take(START - 1), None);
        assert_eq!(pace.due(), Some(START));
        assert_eq!(pace.take(START), Some(START));
        assert_eq!(pace.take(START), None);
        // Nobody came for 5 ms; the arrivals of that time are all still there, each with its own.
        let late = START + 5 * MILLISECOND;
        let taken: Vec<_> = std::iter::from_fn(|| pace.take(late)).collect();
        let due: Vec<_> = (1..=5).map(|i| START + i * MILLISECOND).collect();
        assert_eq!(taken, due);
        assert_eq!(pace.due(), Some(START + 6 * MILLISECOND));
    }

    #[test]
    fn threads_share_one_even_schedule() {
        let mut all: Vec<Nanos> = Vec::new();
        for index in 0..4 {
            let mut schedule = Schedule::share(1000.0, index, 4, START, START);
            all.extend(std::iter::from_fn(|| schedule.take(START + SECOND - 1)));
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..1000).map(|i| START + i * MILLISECOND).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn what_the_warm_up_left_is_not_measured() {
        let begin = START + SECOND;
        let mut schedule = Schedule::share(1000.0, 0, 1, START, begin);
        assert_eq!(schedule.take(begin - 1), Some(START));
        assert_eq!(schedule.take(begin), Some(begin));
        assert_eq!(schedule.take(begin), None);
        assert_eq!(
            schedule.take(begin + MILLISECOND),
            Some(begin + MILLISECOND)
        );
    }

    #[test]
    fn a_closed_loop_is_always_due() {
        let mut pace = Pace::Closed;
        assert_eq!(
            (pace.take(5), pace.take(5), pace.due()),
            (Some(5), Some(5), None)
        );
    }
}

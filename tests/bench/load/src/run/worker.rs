//! One thread's loop. What it drives is made of units, each with one request in flight at most: a
//! TCP connection, a place in a datagram socket's window.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use rustix::io::Result;

use super::pace::Pace;
use super::tally::{Tally, Window};
use crate::clock::{self, MILLISECOND, Nanos};
use crate::net::{self, Epoll, EventFlags};

/// Between two looks for requests that take too long.
const SWEEP: Nanos = 10 * MILLISECOND;
/// How long a unit rests after a failure: a refusal is quick, and a loop of refusals is no load.
const REST: Nanos = 10 * MILLISECOND;

pub trait Driver {
    fn units(&self) -> usize;

    /// Sends the unit's next request, which counts from `due`.
    fn start(&mut self, core: &mut Core, unit: usize, due: Nanos, now: Nanos);

    /// A socket added with this token has something to tell.
    fn event(&mut self, core: &mut Core, token: usize, flags: EventFlags);

    /// Fails what has waited too long.
    fn sweep(&mut self, core: &mut Core, now: Nanos);

    /// The time is over; tells of what is in flight.
    fn finish(&mut self, core: &mut Core);
}

/// What a driver works with.
pub struct Core {
    pub epoll: Epoll,
    pub tally: Tally,
    pub window: Window,
    pace: Pace,
    /// Units without a request, the longest idle first.
    free: VecDeque<usize>,
    /// Units that failed, and until when they rest.
    resting: VecDeque<(Nanos, usize)>,
}

impl Core {
    /// The unit is done with its request. Answers when its next one counts from, if it has one now.
    pub fn next(&mut self, unit: usize, now: Nanos) -> Option<Nanos> {
        // Those that wait for work longer come first.
        if self.free.is_empty() {
            let due = self.pace.take(now);
            if due.is_some() {
                return due;
            }
        }
        self.free.push_back(unit);
        None
    }

    /// The unit's request failed; it rests.
    pub fn fail(&mut self, unit: usize, text: impl FnOnce() -> String) {
        let now = clock::now();
        self.tally.failure(text, now);
        self.resting.push_back((now + REST, unit));
    }

    /// The last moment that counts.
    pub fn last(&self) -> Nanos {
        self.window.end - 1
    }

    fn wake(&mut self, now: Nanos) {
        while let Some((until, unit)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.free.push_back(unit);
        }
    }
}

pub struct Worker {
    pub core: Core,
}

impl Worker {
    pub fn new(pace: Pace, tally: Tally, window: Window) -> Result<Worker> {
        Ok(Worker {
            core: Core {
                epoll: Epoll::new()?,
                tally,
                window,
                pace,
                free: VecDeque::new(),
                resting: VecDeque::new(),
            },
        })
    }

    /// Loads until the window's end.
    pub fn run(self, mut driver: impl Driver) -> Result<Tally> {
        // By default the kernel may wake 50 µs late, which an open loop would count as latency.
        // Where it is refused, it does.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut core = self.core;
        core.free = (0..driver.units()).collect();
        let mut sweep = clock::now() + SWEEP;
        loop {
            let now = clock::now();
            if now >= core.window.end {
                break;
            }
            if now >= sweep {
                core.wake(now);
                driver.sweep(&mut core, now);
                sweep = now + SWEEP;
            }
            while !core.free.is_empty()
                && let Some(due) = core.pace.take(now)
                && let Some(unit) = core.free.pop_front()
            {
                driver.start(&mut core, unit, due, now);
            }
            let due = core.pace.due().filter(|_| !core.free.is_empty());
            let until = sweep.min(core.window.end).min(due.unwrap_or(Nanos::MAX));
            let events = core.epoll.wait(Some(until.saturating_sub(now)))?;
            for event in &events {
                let flags = event.flags;
                driver.event(&mut core, net::token(event), flags);
            }
            core.epoll.reuse(events);
        }
        driver.finish(&mut core);
        if let Pace::Open(_) = core.pace {
            // Due, and nobody was free to send it.
            let last = core.last();
            while let Some(due) = core.pace.take(last) {
                core.tally.unanswered(due);
            }
        }
        Ok(core.tally)
    }
}

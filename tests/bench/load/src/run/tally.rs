//! What is counted, and in which time.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::clock::{Nanos, SECOND};

/// Distinct failure texts kept.
const ERRORS_KEPT: usize = 10;
/// Longer latencies are counted as this one.
const LONGEST: Nanos = 100 * SECOND;

/// The time that counts.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub begin: Nanos,
    /// Not part of it.
    pub end: Nanos,
}

impl Window {
    fn contains(self, time: Nanos) -> bool {
        self.begin <= time && time < self.end
    }
}

pub struct Tally {
    window: Window,
    /// Then only what was due in the window counts; else all that ended in it.
    open: bool,
    pub requests: u64,
    pub failures: u64,
    pub errors: BTreeMap<String, u64>,
    pub bytes: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
    /// Index of each server that was ever named.
    servers: HashMap<Box<[u8]>, usize>,
    /// By that index.
    answered: Vec<u64>,
}

impl Tally {
    pub fn new(window: Window, open: bool) -> Tally {
        Tally {
            window,
            open,
            requests: 0,
            failures: 0,
            errors: BTreeMap::new(),
            bytes: 0,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)
                .expect("1 is below the longest, and 3 digits are possible"),
            servers: HashMap::new(),
            answered: Vec::new(),
        }
    }

    /// The index by which [`Self::success`] takes a server.
    pub fn server(&mut self, name: &[u8]) -> usize {
        if let Some(index) = self.servers.get(name) {
            return *index;
        }
        let index = self.answered.len();
        self.answered.push(0);
        self.servers.insert(name.into(), index);
        index
    }

    /// A request due at `due` was answered, by whom if that is known.
    pub fn success(&mut self, due: Nanos, now: Nanos, server: Option<usize>) {
        if !self.counts(due, now) {
            return;
        }
        self.requests += 1;
        self.latency.saturating_record(now - due);
        self.answered_by(server);
    }

    pub fn failure(&mut self, text: impl FnOnce() -> String, now: Nanos) {
        if self.window.contains(now) {
            self.failures += 1;
            self.note(text());
        }
    }

    /// So much of a body arrived.
    pub fn bytes(&mut self, count: u64, now: Nanos) {
        if self.window.contains(now) {
            self.bytes += count;
        }
    }

    /// A request has no answer at the end of the window: it has waited at least so long.
    pub fn unanswered(&mut self, due: Nanos) {
        if self.open && self.window.contains(due) {
            self.latency.saturating_record(self.window.end - due);
        }
    }

    /// Part of an answer came in the window, the rest did not.
    pub fn answered_by(&mut self, server: Option<usize>) {
        if let Some(count) = server.and_then(|index| self.answered.get_mut(index)) {
            *count += 1;
        }
    }

    /// Keeps a text that is no failed request.
    pub fn note(&mut self, text: String) {
        if self.errors.len() < ERRORS_KEPT || self.errors.contains_key(&text) {
            *self.errors.entry(text).or_default() += 1;
        }
    }

    /// Another thread's.
    pub fn add(&mut self, other: Tally) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.bytes += other.bytes;
        self.latency
            .add(&other.latency)
            .expect("both have the same bounds");
        for (text, count) in other.errors {
            if self.errors.len() < ERRORS_KEPT || self.errors.contains_key(&text) {
                *self.errors.entry(text).or_default() += count;
            }
        }
        for (name, index) in &other.servers {
            let own = self.server(name);
            self.answered[own] += other.answered[*index];
        }
    }

    /// When the time that counts begins.
    pub fn begin(&self) -> Nanos {
        self.window.begin
    }

    pub fn has_any(&self) -> bool {
        self.requests > 0 || self.bytes > 0
    }

    /// Why there may be nothing.
    pub fn excuse(&self) -> String {
        let mut text = format!("{} failures", self.failures);
        for (error, count) in &self.errors {
            // Writing to memory does not fail.
            let _ = write!(text, "; {count} times {error}");
        }
        text
    }

    /// Those that answered at least one.
    pub fn answered(&self) -> BTreeMap<String, u64> {
        let all = self.servers.iter();
        all.map(|(name, index)| (String::from_utf8_lossy(name).into(), self.answered[*index]))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn counts(&self, due: Nanos, now: Nanos) -> bool {
        self.window.contains(now) && (!self.open || self.window.contains(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        begin: 1000,
        end: 2000,
    };

    #[test]
    fn only_the_window_counts() {
        // due, answered, counted in a closed loop, in an open one
        for (due, now, closed, open) in [
            (900, 999, 0, 0),
            (900, 1000, 1, 0),
            (1000, 1100, 1, 1),
            (1900, 1999, 1, 1),
            (1900, 2000, 0, 0),
        ] {
            for (is_open, expected) in [(false, closed), (true, open)] {
                let mut tally = Tally::new(WINDOW, is_open);
                let server = tally.server(b"a:1");
                tally.success(due, now, Some(server));
                let case = format!("{due} {now} {is_open}");
                assert_eq!(tally.requests, expected, "{case}");
                assert_eq!(tally.latency.len(), expected, "{case}");
                let answered: u64 = tally.answered().values().sum();
                assert_eq!(answered, expected, "{case}");
            }
        }
        let mut tally = Tally::new(WINDOW, false);
        for now in [999, 1000, 1999, 2000] {
            tally.failure(|| "x".into(), now);
            tally.bytes(5, now);
        }
        assert_eq!((tally.failures, tally.bytes), (2, 10));
    }

    #[test]
    fn an_open_loop_owns_up_to_who_still_waits() {
        let mut tally = Tally::new(WINDOW, true);
        for due in [999, 1000, 1500, 2000] {
            tally.unanswered(due);
        }
        assert_eq!((tally.latency.len(), tally.requests), (2, 0));
        assert!(tally.latency.max() >= 1000);
        let mut closed = Tally::new(WINDOW, false);
        closed.unanswered(1500);
        assert_eq!(closed.latency.len(), 0);
    }

    #[test]
    fn ten_texts_are_kept_and_all_failures_counted() {
        let mut tally = Tally::new(WINDOW, false);
        for i in 0..24 {
            tally.failure(|| format!("error {}", i % 12), 1500);
        }
        assert_eq!((tally.failures, tally.errors.len()), (24, 10));
        assert!(tally.errors.values().all(|count| *count == 2));
    }

    #[test]
    fn threads_add_up() {
        let mut total = Tally::new(WINDOW, false);
        for names in [[b"a:1", b"b:1"], [b"b:1", b"c:1"]] {
            let mut tally = Tally::new(WINDOW, false);
            for name in names {
                let server = tally.server(name);
                tally.success(1000, 1100, Some(server));
            }
            tally.failure(|| "x".into(), 1500);
            tally.bytes(3, 1500);
            total.add(tally);
        }
        let expected = [("a:1", 1), ("b:1", 2), ("c:1", 1)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(total.answered(), BTreeMap::from(expected));
        assert_eq!((total.requests, total.failures, total.bytes), (4, 2, 6));
        assert_eq!((total.latency.len(), total.errors["x"]), (4, 2));
    }
}

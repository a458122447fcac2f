//! Exponential back-off by key, with the kubelet's rules of when it is over.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    updated: Timestamp,
}

/// Doubles from `initial` to `max`; forgets a key whose event comes more than
/// twice `max` after the last one.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

impl Backoff {
    pub fn new(initial: Duration, max: Duration) -> Backoff {
        Backoff {
            initial,
            max,
            entries: HashMap::new(),
        }
    }

    /// Another try because of what happened at `event`.
    pub fn next(&mut self, key: &str, event: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key) {
            Some(entry) if !self.expired(entry, event) => (entry.delay * 2).min(self.max),
            _ => self.initial,
        };
        let entry = Entry {
            delay,
            updated: now,
        };
        self.entries.insert(key.to_owned(), entry);
    }

    /// How long one waits after what happened at `event`, if one has to.
    pub fn delay(&self, key: &str, event: Timestamp) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        (!self.expired(entry, event)).then_some(entry.delay)
    }

    /// The end of the back-off that began at `event`, if it is not over.
    pub fn until(&self, key: &str, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let end = event.saturating_add(self.delay(key, event)?).ok()?;
        (now < end).then_some(end)
    }

    /// The end of the back-off since the last try.
    pub fn until_since_update(&self, key: &str, now: Timestamp) -> Option<Timestamp> {
        self.until(key, self.entries.get(key)?.updated, now)
    }

    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    fn expired(&self, entry: &Entry, event: Timestamp) -> bool {
        let limit = i64::try_from(self.max.as_secs() * 2).unwrap_or(i64::MAX);
        event.as_second().saturating_sub(entry.updated.as_second()) > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn crash_loop() -> Backoff {
        Backoff::new(Duration::from_secs(10), Duration::from_secs(300))
    }

    #[test]
    fn doubles_to_the_maximum() {
        let mut backoff = crash_loop();
        let mut delays = Vec::new();
        for round in 0..8 {
            backoff.next("a", at(round), at(round));
            delays.push(backoff.delay("a", at(round)).unwrap().as_secs());
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.delay("b", at(0)), None);
    }

    #[test]
    fn is_over_after_the_delay_and_after_a_long_run() {
        let mut backoff = crash_loop();
        backoff.next("a", at(0), at(0));
        for (event, now, want) in [
            (100, 100, Some(110)),
            (100, 109, Some(110)),
            (100, 110, None),
            // Ran for more than ten minutes.
            (601, 601, None),
        ] {
            let got = backoff.until("a", at(event), at(now));
            assert_eq!(got.map(Timestamp::as_second), want, "{event} {now}");
        }
        backoff.next("a", at(601), at(601));
        assert_eq!(backoff.delay("a", at(601)), Some(Duration::from_secs(10)));
    }

    #[test]
    fn since_the_last_try() {
        let mut backoff = crash_loop();
        backoff.next("image", at(5), at(5));
        assert_eq!(backoff.until_since_update("image", at(14)), Some(at(15)));
        assert_eq!(backoff.until_since_update("image", at(15)), None);
        backoff.forget("image");
        assert_eq!(backoff.until_since_update("image", at(6)), None);
    }
}

//! What clients say in seconds, put to use: no number of theirs is past what a time or a wait can hold.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// No wait is longer: what Go's time.Duration can hold, 292 years. Every clock can be put that far ahead.
pub const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// `span` after `at`, or before it where it is negative; the last time there is, or the first, where it would be past.
pub fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    let end = match span.is_negative() {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    at.checked_add(span).unwrap_or(end)
}

/// So many seconds of waiting: none where they are negative.
pub fn wait(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_at_most_the_last_one() {
        let now = at("2026-01-01T00:00:00Z");
        let rest = Timestamp::MAX.as_second() - now.as_second();
        for (from, seconds, wanted) in [
            (now, 0, now),
            (now, 30, at("2026-01-01T00:00:30Z")),
            (now, -30, at("2025-12-31T23:59:30Z")),
            (
                now,
                rest,
                Timestamp::from_second(now.as_second() + rest).unwrap(),
            ),
            (now, rest + 1, Timestamp::MAX),
            (now, 1_000_000_000_000, Timestamp::MAX),
            (now, i64::MAX, Timestamp::MAX),
            (now, i64::MIN, Timestamp::MIN),
            (Timestamp::MAX, 1, Timestamp::MAX),
            (Timestamp::MIN, -1, Timestamp::MIN),
        ] {
            let found = later(from, SignedDuration::from_secs(seconds));
            assert_eq!(found, wanted, "{from} + {seconds} s");
        }
    }

    #[test]
    fn a_wait_is_at_most_the_longest() {
        let longest = LONGEST.as_secs();
        for (seconds, wanted) in [
            (i64::MIN, Duration::ZERO),
            (-1, Duration::ZERO),
            (0, Duration::ZERO),
            (300, Duration::from_secs(300)),
            (longest as i64, Duration::from_secs(longest)),
            (longest as i64 + 1, LONGEST),
            (i64::MAX, LONGEST),
        ] {
            assert_eq!(wait(seconds), wanted, "{seconds} s");
        }
        assert!(std::time::Instant::now().checked_add(LONGEST).is_some());
    }
}

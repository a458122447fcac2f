//! How fast processor time is used: from one question to the next.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// Closer questions get the last answer: too short a time says nothing.
const MIN_NANOS: i128 = 1_000_000_000;

#[derive(Default)]
pub struct Rates {
    samples: Mutex<HashMap<String, Sample>>,
}

struct Sample {
    at: Timestamp,
    cpu_nanos: u64,
    rate: Option<u64>,
}

impl Rates {
    /// Nanoseconds of processor time a second; none at the first question.
    pub fn of(&self, id: &str, at: Timestamp, cpu_nanos: u64) -> Option<u64> {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = samples.get_mut(id) else {
            let rate = None;
            samples.insert(
                id.to_owned(),
                Sample {
                    at,
                    cpu_nanos,
                    rate,
                },
            );
            return None;
        };
        let passed = at.as_nanosecond() - last.at.as_nanosecond();
        if passed >= MIN_NANOS {
            let used = u128::from(cpu_nanos.saturating_sub(last.cpu_nanos));
            let rate = used * 1_000_000_000 / passed.unsigned_abs();
            *last = Sample {
                at,
                cpu_nanos,
                rate: u64::try_from(rate).ok(),
            };
        }
        last.rate
    }

    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.retain(|id, _| is_known(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_one_question_to_the_next() {
        let rates = Rates::default();
        let at = |millis| Timestamp::from_millisecond(millis).unwrap();
        const MILLI: u64 = 1_000_000;
        for (now, cpu, want) in [
            (0, 0, None),
            (500, 500, None),
            (2000, 1000, Some(500 * MILLI)),
            (2100, 1100, Some(500 * MILLI)),
            (4000, 1000, Some(0)),
        ] {
            assert_eq!(rates.of("a", at(now), cpu * MILLI), want, "{now}");
        }
        assert_eq!(rates.of("b", at(0), 0), None);
        rates.retain(|id| id == "b");
        assert_eq!(rates.of("a", at(9000), 0), None);
    }
}

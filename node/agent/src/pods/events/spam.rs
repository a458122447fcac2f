//! client-go's limit: 25 events of an object at once, then one in five minutes.

use std::collections::HashMap;

use jiff::Timestamp;

const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// Forgotten at this many: a full bucket is as good as none.
const OBJECTS: usize = 4096;

#[derive(Debug, Default)]
pub struct SpamFilter {
    buckets: HashMap<String, (f64, Timestamp)>,
}

impl SpamFilter {
    pub fn lets_pass(&mut self, object: &str, now: Timestamp) -> bool {
        if self.buckets.len() >= OBJECTS {
            self.buckets.clear();
        }
        let (tokens, at) = self
            .buckets
            .entry(object.to_owned())
            .or_insert((BURST, now));
        let passed = now.duration_since(*at).as_secs_f64().max(0.0);
        *tokens = (*tokens + passed / REFILL_SECONDS).min(BURST);
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_and_floods_do_not() {
        let mut filter = SpamFilter::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let passed = (0..40).filter(|_| filter.lets_pass("a", at(0))).count();
        assert_eq!(passed, 25);
        assert!(filter.lets_pass("b", at(0)));
        assert!(!filter.lets_pass("a", at(299)));
        assert!(filter.lets_pass("a", at(301)));
        assert!(!filter.lets_pass("a", at(302)));
    }
}

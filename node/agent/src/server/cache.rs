//! Answers of the API server, kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// More than this many different askers are not remembered.
const MOST: usize = 1024;

#[derive(Debug)]
pub struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub fn new() -> Cache<K, V> {
        Cache {
            entries: Mutex::default(),
        }
    }

    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, until) = entries.get(key)?;
        (now < *until).then(|| value.clone())
    }

    pub fn put(&self, key: K, value: V, now: Instant, keep: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MOST {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() < MOST {
            entries.insert(key, (value, now + keep));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_old() {
        let cache = Cache::new();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        cache.put("a", 1, start, Duration::from_secs(10));
        assert_eq!(cache.get(&"a", later(9)), Some(1));
        assert_eq!(cache.get(&"a", later(10)), None);
        assert_eq!(cache.get(&"b", start), None);
    }

    #[test]
    fn there_are_never_too_many() {
        let cache = Cache::new();
        let start = Instant::now();
        for key in 0..2 * MOST {
            cache.put(key, (), start, Duration::from_secs(10));
        }
        assert_eq!(cache.entries.lock().unwrap().len(), MOST);
        let later = start + Duration::from_secs(11);
        cache.put(MOST, (), later, Duration::from_secs(10));
        assert_eq!(cache.get(&MOST, later), Some(()));
        assert_eq!(cache.entries.lock().unwrap().len(), 1);
    }
}

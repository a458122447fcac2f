//! Numbers that were picked a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a number that was picked but is not yet seen in the cache is left alone by other picks. A transaction
/// is over by then; this only spares lost races, etcd's precondition decides.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// By their keys in etcd.
#[derive(Default)]
pub struct UnderWay(Mutex<Picked>);

#[derive(Default)]
pub struct Picked(HashMap<String, Instant>);

impl UnderWay {
    /// Two picks at once would find the same number free.
    pub fn lock(&self) -> MutexGuard<'_, Picked> {
        let mut picked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        picked
            .0
            .retain(|_, at| now.duration_since(*at) < LONG_ENOUGH);
        picked
    }
}

impl Picked {
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    pub fn insert(&mut self, key: String) {
        self.0.insert(key, Instant::now());
    }
}

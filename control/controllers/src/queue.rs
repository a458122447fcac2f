//! A work queue of keys: each at most once, never on two workers, with back-off a key.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use vetch_api::time::LONGEST;

const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when its worker is done.
    waiting: HashSet<K>,
    running: HashSet<K>,
    delayed: BinaryHeap<Reverse<(Instant, K)>>,
    /// The one time that counts for a delayed key: its earliest. Other entries of the heap are stale.
    due: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

impl<K: Clone + Eq + Hash + Ord> Default for Queue<K> {
    fn default() -> Queue<K> {
        Queue {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                waiting: HashSet::new(),
                running: HashSet::new(),
                delayed: BinaryHeap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
            }),
            wake: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub fn add(&self, key: K) {
        if self.with(|state| state.add(key)) {
            self.wake.notify_one();
        }
    }

    /// The earliest time asked for wins: a reconciler that is woken says itself when to look again.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay.min(LONGEST);
        if self.with(|state| state.delay(key, at)) {
            self.wake.notify_one();
        }
    }

    /// Again later, the later the more often it failed.
    pub fn retry(&self, key: K) {
        let delay = self.with(|state| {
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = FIRST_BACKOFF
                .saturating_mul(1 << (*failures).min(20))
                .min(MAX_BACKOFF);
            *failures += 1;
            delay
        });
        self.add_after(key, delay);
    }

    pub fn forget(&self, key: &K) {
        self.with(|state| state.failures.remove(key));
    }

    /// The next key; it is this worker's until `done`.
    pub async fn next(&self) -> K {
        loop {
            let (key, due, more) = self.with(|state| {
                let now = Instant::now();
                while state
                    .delayed
                    .peek()
                    .is_some_and(|Reverse((at, _))| *at <= now)
                {
                    if let Some(Reverse((at, key))) = state.delayed.pop()
                        && state.due.get(&key) == Some(&at)
                    {
                        state.due.remove(&key);
                        state.add(key);
                    }
                }
                let key = state.ready.pop_front();
                if let Some(key) = &key {
                    state.waiting.remove(key);
                    state.running.insert(key.clone());
                }
                (
                    key,
                    state.delayed.peek().map(|Reverse((at, _))| *at),
                    !state.ready.is_empty(),
                )
            });
            if let Some(key) = key {
                if more || due.is_some() {
                    // Another worker takes the next one, or watches the clock.
                    self.wake.notify_one();
                }
                return key;
            }
            match due {
                Some(due) => {
                    let _ = tokio::time::timeout_at(due, self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
    }

    pub fn done(&self, key: &K) {
        let again = self.with(|state| {
            state.running.remove(key);
            let again = state.waiting.contains(key);
            if again {
                state.ready.push_back(key.clone());
            }
            again
        });
        if again {
            self.wake.notify_one();
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State<K>) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Clone + Eq + Hash + Ord> State<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.waiting.insert(key.clone()) || self.running.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn delay(&mut self, key: K, at: Instant) -> bool {
        if self.due.get(&key).is_some_and(|due| *due <= at) {
            return false;
        }
        self.due.insert(key.clone(), at);
        self.delayed.push(Reverse((at, key)));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &Queue<&'static str>) -> Option<&'static str> {
        futures::FutureExt::now_or_never(queue.next())
    }

    #[tokio::test]
    async fn a_key_waits_once_and_runs_on_one_worker() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(taken(&queue), Some("a"));
        assert_eq!(taken(&queue), None);
        queue.add("a");
        assert_eq!(taken(&queue), None, "still on its worker");
        queue.done(&"a");
        assert_eq!(taken(&queue), Some("a"));
        queue.done(&"a");
        assert_eq!(taken(&queue), None);
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_doubles_and_is_forgotten() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        for _ in 0..3 {
            let before = Instant::now();
            queue.retry("a");
            assert_eq!(queue.next().await, "a");
            waits.push(before.elapsed().as_millis());
            queue.done(&"a");
        }
        assert_eq!(waits, [5, 10, 20]);
        queue.forget(&"a");
        let before = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert_eq!(before.elapsed().as_millis(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_key_does_not_hold_an_earlier_one() {
        let queue = Queue::default();
        queue.add_after("late", Duration::from_secs(10));
        queue.add_after("early", Duration::from_secs(1));
        queue.add("now");
        assert_eq!(queue.next().await, "now");
        assert_eq!(queue.next().await, "early");
        assert_eq!(queue.next().await, "late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_has_one_timer_its_earliest() {
        let queue = Queue::default();
        let start = Instant::now();
        for seconds in [7, 3, 5] {
            queue.add_after("a", Duration::from_secs(seconds));
        }
        assert_eq!(queue.next().await, "a");
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        queue.done(&"a");
        let again = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(again.is_err(), "the later times were replaced");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_may_be_past_what_a_clock_can_hold() {
        let queue = Queue::default();
        for (key, delay) in [
            ("a", LONGEST),
            ("b", Duration::from_secs(i64::MAX as u64)),
            ("c", Duration::MAX),
        ] {
            queue.add_after(key, delay);
        }
        let waited = tokio::time::timeout(Duration::from_secs(60), queue.next()).await;
        assert!(waited.is_err(), "none is due");
    }
}

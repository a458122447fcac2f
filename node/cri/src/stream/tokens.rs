//! What waits to be fetched, by a word that nobody guesses.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::distr::Alphanumeric;

/// As long as kubelets' own streaming servers keep theirs, and as many.
const LIFETIME: Duration = Duration::from_secs(60);
const MOST: usize = 1000;
/// 190 bits.
const LENGTH: usize = 32;

pub struct Tokens<T> {
    waiting: Mutex<HashMap<String, (Instant, T)>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Tokens {
            waiting: Mutex::default(),
        }
    }
}

impl<T> Tokens<T> {
    /// None while too many wait.
    pub fn put(&self, value: T) -> Option<String> {
        self.put_at(value, Instant::now())
    }

    fn put_at(&self, value: T, now: Instant) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (since, _)| now.duration_since(*since) < LIFETIME);
        if waiting.len() >= MOST {
            return None;
        }
        let letters = rand::rng().sample_iter(Alphanumeric).take(LENGTH);
        let token: String = letters.map(char::from).collect();
        waiting.insert(token.clone(), (now, value));
        Some(token)
    }

    /// Once.
    pub fn take(&self, token: &str) -> Option<T> {
        self.take_at(token, Instant::now())
    }

    fn take_at(&self, token: &str, now: Instant) -> Option<T> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, value) = waiting.remove(token)?;
        (now.duration_since(since) < LIFETIME).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let first = tokens.put_at(1, now).unwrap();
        let second = tokens.put_at(2, now).unwrap();
        assert_ne!(first, second);
        assert_eq!(tokens.take_at("none", now), None);
        assert_eq!(tokens.take_at(&first, now), Some(1));
        assert_eq!(tokens.take_at(&first, now), None);
        assert_eq!(tokens.take_at(&second, now + LIFETIME), None);
    }

    #[test]
    fn there_is_room_again_when_old_ones_are_over() {
        let tokens = Tokens::default();
        let now = Instant::now();
        for _ in 0..MOST {
            tokens.put_at((), now).unwrap();
        }
        assert_eq!(tokens.put_at((), now), None);
        assert!(tokens.put_at((), now + LIFETIME).is_some());
    }
}

//! What a controller has written and its cache may not show yet.
//!
//! Acting on a cache that lacks one's own writes creates or deletes too much. Nothing is decided
//! for a key until the cache has passed its last write; what was deleted counts as gone at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::informer::Mark;
use crate::key::ObjectKey;

#[derive(Default)]
struct Entry {
    written: Vec<Mark>,
    deleted: HashSet<String>,
    /// Somebody waits for the cache to catch up.
    awaited: bool,
}

#[derive(Default)]
pub struct Pending {
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

impl Pending {
    pub fn written(&self, key: &ObjectKey, mark: Mark) {
        self.with(|entries| entries.entry(key.clone()).or_default().written.push(mark));
    }

    pub fn deleted(&self, key: &ObjectKey, uid: &str) {
        self.with(|entries| {
            entries
                .entry(key.clone())
                .or_default()
                .deleted
                .insert(uid.to_owned())
        });
    }

    /// Whether everything written for the key is visible, as told by `passed`.
    pub fn is_visible(&self, key: &ObjectKey, passed: impl Fn(Mark) -> bool) -> bool {
        self.with(|entries| {
            let Some(entry) = entries.get_mut(key) else {
                return true;
            };
            entry.written.retain(|mark| !passed(*mark));
            entry.awaited = !entry.written.is_empty();
            !entry.awaited
        })
    }

    /// Whether the cache's new version of a dependent is news for the key's reconciler: it comes
    /// from somebody else, or it is what the reconciler waits for.
    pub fn is_news(&self, key: &ObjectKey, revision: u64) -> bool {
        self.with(|entries| match entries.get(key) {
            Some(entry) => entry.awaited || !entry.written.iter().any(|mark| mark.is_at(revision)),
            None => true,
        })
    }

    pub fn is_deleted(&self, key: &ObjectKey, uid: &str) -> bool {
        self.with(|entries| {
            entries
                .get(key)
                .is_some_and(|entry| entry.deleted.contains(uid))
        })
    }

    /// The cache shows the deletion, too.
    pub fn saw_deletion(&self, key: &ObjectKey, uid: &str) {
        self.with(|entries| {
            if let Some(entry) = entries.get_mut(key) {
                entry.deleted.remove(uid);
            }
        });
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.with(|entries| entries.remove(key));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ObjectKey, Entry>) -> T) -> T {
        f(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creations_hide_a_key_until_all_are_seen() {
        let (pending, key) = (Pending::default(), ObjectKey::new("a", "b"));
        assert!(pending.is_visible(&key, |_| false));
        pending.written(&key, Mark::default());
        assert!(!pending.is_visible(&key, |_| false));
        assert!(pending.is_visible(&ObjectKey::new("a", "c"), |_| false));
        assert!(pending.is_visible(&key, |_| true));
        assert!(pending.is_visible(&key, |_| false), "seen once is seen");
    }

    #[test]
    fn own_writes_are_no_news_unless_awaited() {
        let (pending, key) = (Pending::default(), ObjectKey::new("a", "b"));
        pending.written(&key, Mark::at(7));
        assert!(!pending.is_news(&key, 7));
        assert!(pending.is_news(&key, 8), "somebody else's");
        pending.is_visible(&key, |_| false);
        assert!(pending.is_news(&key, 7), "now it is waited for");
        assert!(pending.is_news(&ObjectKey::new("a", "c"), 7));
    }

    #[test]
    fn deletions_count_until_they_are_seen() {
        let (pending, key) = (Pending::default(), ObjectKey::new("a", "b"));
        pending.deleted(&key, "1");
        assert!(pending.is_deleted(&key, "1"));
        pending.saw_deletion(&key, "1");
        assert!(!pending.is_deleted(&key, "1"));
    }
}

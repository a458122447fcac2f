//! One resource's objects in memory, and the last events on them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::Error;
use crate::object::{Event, EventKind, Object};

/// Events kept so that a watch can start in the past. A client that was away for longer lists anew.
const WINDOW: usize = 4096;

/// How long a read waits for a revision that etcd has and the cache has not seen yet.
const FRESHNESS_LIMIT: Duration = Duration::from_secs(3);

/// The cache of one prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    state: Arc<RwLock<State>>,
    /// The revision up to which this process has seen everything, the same for all caches.
    revision: watch::Receiver<i64>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Arc<Object>>,
    window: VecDeque<Arc<Event>>,
    /// Events after this revision are in the window, or have not happened.
    complete_after: i64,
    /// Position of the window's first event since the cache began.
    first: u64,
}

/// A consistent view of the objects below a key prefix.
#[derive(Debug)]
pub struct Listing {
    pub objects: Vec<Arc<Object>>,
    pub revision: i64,
}

/// A reader's place in the event window.
#[derive(Debug)]
pub struct Watch {
    cache: Cache,
    position: u64,
    /// Events up to here were part of the list the watch began with.
    after: i64,
}

impl Cache {
    pub(crate) fn new(revision: watch::Receiver<i64>) -> Cache {
        Cache {
            state: Arc::default(),
            revision,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The revision up to which everything is here.
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Waits until everything up to `revision` is here.
    pub async fn wait_for(&self, revision: i64) -> Result<(), Error> {
        let mut seen = self.revision.clone();
        let reached =
            tokio::time::timeout(FRESHNESS_LIMIT, seen.wait_for(|now| *now >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Future {
                requested: revision,
                current: self.revision(),
            }),
        }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects below `prefix`, in key order, with the revision they stand for.
    pub fn list(&self, prefix: &str) -> Listing {
        // The revision is read first: what came in since is in the list too, and a watch from the
        // older revision sends it once more, which clients must bear; the other order would lose it.
        let revision = self.revision();
        let state = self.read();
        let objects = state
            .objects
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, object)| Arc::clone(object))
            .collect();
        Listing { objects, revision }
    }

    /// Events after `revision`.
    pub fn watch(&self, revision: i64) -> Result<Watch, Error> {
        let state = self.read();
        if revision < state.complete_after {
            return Err(Error::Expired {
                requested: revision,
                oldest: state.complete_after,
            });
        }
        let skipped = state
            .window
            .partition_point(|event| event.revision <= revision);
        Ok(Watch {
            cache: self.clone(),
            position: state.first + skipped as u64,
            after: revision,
        })
    }

    /// Takes one change in; the feed announces the revision afterwards.
    pub(crate) fn apply(&self, key: &str, change: Option<Arc<Object>>, revision: i64) {
        let mut state = self.write();
        let event = match change {
            Some(object) => {
                let previous = state.objects.insert(key.to_owned(), Arc::clone(&object));
                let kind = if previous.is_some() {
                    EventKind::Modified
                } else {
                    EventKind::Added
                };
                Event::new(kind, object, previous)
            }
            None => {
                let Some(last) = state.objects.remove(key) else {
                    return;
                };
                let gone = Object::new(key.to_owned(), last.value.clone(), revision);
                Event::new(EventKind::Deleted, gone, Some(last))
            }
        };
        state.window.push_back(event);
        if state.window.len() > WINDOW
            && let Some(dropped) = state.window.pop_front()
        {
            state.complete_after = dropped.revision;
            state.first += 1;
        }
    }

    /// Makes the cache equal to a full list: only differences become events.
    pub(crate) fn replace(&self, wanted: BTreeMap<String, Arc<Object>>, revision: i64) {
        let gone: Vec<String> = self
            .read()
            .objects
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .cloned()
            .collect();
        let first_fill = self.read().objects.is_empty() && self.read().window.is_empty();
        if first_fill {
            let mut state = self.write();
            state.objects = wanted;
            state.complete_after = revision;
            return;
        }
        for (key, object) in wanted {
            if self
                .get(&key)
                .is_none_or(|known| known.revision != object.revision)
            {
                self.apply(&key, Some(object), revision);
            }
        }
        for key in gone {
            self.apply(&key, None, revision);
        }
    }
}

impl Watch {
    /// The events that have come since the last call, waiting for at least one, or for the
    /// revision to move on without any (an empty answer: time for a bookmark).
    pub async fn next(&mut self) -> Result<(Vec<Arc<Event>>, i64), Error> {
        let mut seen = self.cache.revision.clone();
        loop {
            let revision = *seen.borrow_and_update();
            let events = self.take(revision)?;
            if !events.is_empty() {
                return Ok((events, revision));
            }
            if seen.changed().await.is_err() {
                // The feed ended with the process.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Events up to `revision`, which the feed has announced as complete.
    fn take(&mut self, revision: i64) -> Result<Vec<Arc<Event>>, Error> {
        let state = self.cache.read();
        let Some(skip) = self.position.checked_sub(state.first) else {
            return Err(Error::Expired {
                requested: self.after,
                oldest: state.complete_after,
            });
        };
        let mut events = Vec::new();
        for event in state.window.iter().skip(skip as usize) {
            if event.revision > revision {
                break;
            }
            self.position += 1;
            if event.revision > self.after {
                events.push(Arc::clone(event));
            }
        }
        Ok(events)
    }

    pub fn revision(&self) -> i64 {
        self.cache.revision()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, revision: i64) -> Arc<Object> {
        Object::new(
            format!("/registry/pods/ns/{name}"),
            json!({"metadata": {"name": name}}),
            revision,
        )
    }

    fn cache() -> (Cache, watch::Sender<i64>) {
        let (sender, receiver) = watch::channel(0);
        (Cache::new(receiver), sender)
    }

    fn put(cache: &Cache, sender: &watch::Sender<i64>, name: &str, revision: i64) {
        let object = object(name, revision);
        cache.apply(&object.key.clone(), Some(object), revision);
        sender.send_replace(revision);
    }

    #[tokio::test]
    async fn a_watch_begins_after_its_revision() {
        let (cache, sender) = cache();
        for (revision, name) in [(5, "a"), (6, "b"), (7, "a")] {
            put(&cache, &sender, name, revision);
        }
        let mut watch = cache.watch(5).unwrap();
        let (events, revision) = watch.next().await.unwrap();
        let seen: Vec<_> = events.iter().map(|e| (e.kind, e.revision)).collect();
        assert_eq!(seen, [(EventKind::Added, 6), (EventKind::Modified, 7)]);
        assert_eq!(revision, 7);
    }

    #[tokio::test]
    async fn a_deletion_carries_the_last_state_and_its_own_revision() {
        let (cache, sender) = cache();
        put(&cache, &sender, "a", 5);
        cache.apply("/registry/pods/ns/a", None, 9);
        sender.send_replace(9);
        let (events, _) = cache.watch(5).unwrap().next().await.unwrap();
        assert_eq!(events[0].kind, EventKind::Deleted);
        assert_eq!(events[0].object.value["metadata"]["resourceVersion"], "9");
        assert!(cache.list("/registry/pods/").objects.is_empty());
    }

    #[test]
    fn a_watch_from_before_the_window_is_expired() {
        let (cache, sender) = cache();
        for revision in 1..=(WINDOW as i64 + 10) {
            put(&cache, &sender, "a", revision);
        }
        assert!(matches!(cache.watch(3), Err(Error::Expired { .. })));
        assert!(cache.watch(10).is_ok());
    }

    #[test]
    fn a_prefix_lists_one_namespace() {
        let (cache, sender) = cache();
        put(&cache, &sender, "a", 1);
        assert_eq!(cache.list("/registry/pods/ns/").objects.len(), 1);
        assert_eq!(cache.list("/registry/pods/n/").objects.len(), 0);
    }
}

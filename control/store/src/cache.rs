//! One resource's objects in memory, and the last events on them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::Error;
use crate::object::{Event, EventKind, Object};

/// Events kept so that a watch can start in the past; those that compaction passes go earlier. A client
/// that was away for longer lists anew.
const WINDOW: usize = 4096;

/// How long a read waits for a revision that etcd has and the cache has not seen yet.
const FRESHNESS_LIMIT: Duration = Duration::from_secs(3);

/// The cache of one prefix. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    /// The revision up to which this process has seen everything, the same for all caches.
    revision: watch::Receiver<i64>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    /// Wakes the watches of this cache alone; its value is the last event's revision.
    changed: watch::Sender<i64>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Arc<Object>>,
    window: VecDeque<Arc<Event>>,
    /// Revision of the last event here, or of the full list.
    revision: i64,
    /// Events after this revision are in the window, or have not happened.
    complete_after: i64,
    /// Position of the window's first event since the cache began.
    first: u64,
}

/// One key's new state; `None` where it was deleted.
#[derive(Debug)]
pub(crate) struct Change {
    pub key: String,
    pub object: Option<Arc<Object>>,
    pub revision: i64,
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
    changed: watch::Receiver<i64>,
    position: u64,
    /// Where the watch began.
    after: i64,
}

impl Cache {
    pub(crate) fn new(revision: watch::Receiver<i64>) -> Cache {
        let shared = Shared {
            state: RwLock::default(),
            changed: watch::Sender::new(0),
        };
        Cache {
            shared: Arc::new(shared),
            revision,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.shared
            .state
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.shared
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The revision up to which everything is here.
    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Waits until everything up to `revision` is here, and in any case for the first list.
    pub async fn wait_for(&self, revision: i64) -> Result<(), Error> {
        let wanted = revision.max(1);
        if self.revision() >= wanted {
            return Ok(());
        }
        let mut seen = self.revision.clone();
        let reached =
            tokio::time::timeout(FRESHNESS_LIMIT, seen.wait_for(|now| *now >= wanted)).await;
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
        // A revision is announced after its events are here, so this one is never ahead of the state.
        let announced = self.revision();
        let state = self.read();
        let objects = state
            .below(prefix, prefix)
            .map(|(_, object)| Arc::clone(object))
            .collect();
        Listing {
            objects,
            revision: announced.max(state.revision),
        }
    }

    /// Whether there is any object below `prefix`.
    pub fn any(&self, prefix: &str) -> bool {
        self.read().below(prefix, prefix).next().is_some()
    }

    /// The objects below `prefix` from key `start` on as they were at `revision`, made by undoing the window's
    /// events; `None` where the window does not reach.
    pub fn list_at(&self, prefix: &str, start: &str, revision: i64) -> Option<Vec<Arc<Object>>> {
        let announced = self.revision();
        let state = self.read();
        if revision < state.complete_after || revision > announced.max(state.revision) {
            return None;
        }
        let mut undone: BTreeMap<&str, Option<&Arc<Object>>> = BTreeMap::new();
        for event in state
            .window
            .iter()
            .rev()
            .take_while(|event| event.revision > revision)
        {
            let key = event.object.key.as_str();
            if key >= start && key.starts_with(prefix) {
                undone.insert(key, event.previous.as_ref());
            }
        }
        let mut objects: Vec<Arc<Object>> = state
            .below(prefix, start)
            .filter(|(key, _)| !undone.contains_key(key.as_str()))
            .map(|(_, object)| Arc::clone(object))
            .collect();
        let kept = objects.len();
        objects.extend(undone.into_values().flatten().cloned());
        if objects.len() > kept {
            objects.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Some(objects)
    }

    /// Events after `revision`.
    pub fn watch(&self, revision: i64) -> Result<Watch, Error> {
        let changed = self.shared.changed.subscribe();
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
            changed,
            position: state.first + skipped as u64,
            after: revision,
        })
    }

    /// Takes changes in, all of one or more whole revisions; the feed announces the revision afterwards.
    pub(crate) fn apply(&self, changes: Vec<Change>) {
        let mut state = self.write();
        for change in changes {
            state.apply(change);
        }
        let revision = state.revision;
        drop(state);
        self.shared.changed.send_replace(revision);
    }

    /// Lets go of the events up to `revision`, and of the states that only they still hold.
    pub(crate) fn forget(&self, revision: i64) {
        let mut state = self.write();
        let old = state
            .window
            .partition_point(|event| event.revision <= revision);
        let dropped: Vec<_> = state.window.drain(..old).collect();
        if let Some(last) = dropped.last() {
            state.complete_after = last.revision;
        }
        state.first += old as u64;
        state.window.shrink_to_fit();
        // Readers need not wait until thousands of objects are freed.
        drop(state);
        drop(dropped);
    }

    /// Starts anew from a full list. What happened before is not known, so running watches end.
    pub(crate) fn reset(&self, objects: BTreeMap<String, Arc<Object>>, revision: i64) {
        let mut state = self.write();
        state.objects = objects;
        state.first += state.window.len() as u64 + 1;
        state.window.clear();
        state.complete_after = revision;
        state.revision = revision;
        drop(state);
        self.shared.changed.send_replace(revision);
    }
}

impl State {
    fn below(&self, prefix: &str, start: &str) -> impl Iterator<Item = (&String, &Arc<Object>)> {
        self.objects
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn apply(&mut self, change: Change) {
        let Change {
            key,
            object,
            revision,
        } = change;
        self.revision = self.revision.max(revision);
        let event = match object {
            Some(object) => {
                let previous = self.objects.insert(key, Arc::clone(&object));
                let kind = if previous.is_some() {
                    EventKind::Modified
                } else {
                    EventKind::Added
                };
                Event::new(kind, object, previous)
            }
            None => {
                let Some(last) = self.objects.remove(&key) else {
                    return;
                };
                let gone = Object::new(key, last.value.clone(), revision);
                Event::new(EventKind::Deleted, gone, Some(last))
            }
        };
        self.window.push_back(event);
        if self.window.len() > WINDOW
            && let Some(dropped) = self.window.pop_front()
        {
            self.complete_after = dropped.revision;
            self.first += 1;
        }
    }
}

impl Watch {
    /// The events that have come since the last call; waits for at least one. May be dropped while it waits.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Error> {
        loop {
            self.changed.borrow_and_update();
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.changed.changed().await.is_err() {
                // Cannot be while this watch holds the cache.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The events that are here, and the revision the reader has reached with them: a bookmark.
    pub fn progress(&mut self) -> Result<(Vec<Arc<Event>>, i64), Error> {
        let revision = self.cache.revision();
        let events = self.take()?;
        Ok((events, revision.max(self.after)))
    }

    fn take(&mut self) -> Result<Vec<Arc<Event>>, Error> {
        let state = self.cache.read();
        let Some(skip) = self.position.checked_sub(state.first) else {
            return Err(Error::Expired {
                requested: self.after,
                oldest: state.complete_after,
            });
        };
        let events: Vec<_> = state.window.iter().skip(skip as usize).cloned().collect();
        self.position += events.len() as u64;
        if let Some(last) = events.last() {
            self.after = last.revision;
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests;

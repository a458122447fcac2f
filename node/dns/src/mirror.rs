//! What the API server has of one kind.

use std::collections::{HashMap, HashSet};

use kube::{Resource, runtime::watcher::Event};

use crate::key::Key;

/// Objects of one kind, of each what matters here. A LIST that has begun takes
/// nothing away until it is complete.
#[derive(Debug)]
pub struct Mirror<V> {
    items: HashMap<Key, Box<V>>,
    listing: Option<HashSet<Key>>,
    listed: bool,
}

impl<V> Default for Mirror<V> {
    fn default() -> Self {
        Self {
            items: HashMap::new(),
            listing: None,
            listed: false,
        }
    }
}

/// What an object was; what it is now is in the mirror.
pub struct Change<V> {
    pub key: Key,
    pub before: Option<Box<V>>,
}

impl<V> Mirror<V> {
    /// Whether a LIST was complete once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// `key` is `namespace/name`.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.items.get(key).map(Box::as_ref)
    }

    pub fn get_key_value(&self, key: &str) -> Option<(&Key, &V)> {
        let (key, value) = self.items.get_key_value(key)?;
        Some((key, value))
    }

    pub fn apply<K: Resource>(
        &mut self,
        event: &Event<K>,
        read: impl Fn(&K) -> V,
    ) -> Vec<Change<V>> {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(Key::of(object.meta()));
                }
                vec![self.insert(object, read)]
            }
            Event::Apply(object) => vec![self.insert(object, read)],
            Event::Delete(object) => self.remove(Key::of(object.meta())).into_iter().collect(),
            Event::InitDone => {
                self.listed = true;
                let seen = self.listing.take().unwrap_or_default();
                let gone: Vec<Key> = self
                    .items
                    .keys()
                    .filter(|key| !seen.contains(*key))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .filter_map(|key| self.remove(key))
                    .collect()
            }
        }
    }

    fn insert<K: Resource>(&mut self, object: &K, read: impl Fn(&K) -> V) -> Change<V> {
        let key = Key::of(object.meta());
        let before = self.items.insert(key.clone(), Box::new(read(object)));
        Change { key, before }
    }

    fn remove(&mut self, key: Key) -> Option<Change<V>> {
        let before = Some(self.items.remove(&key)?);
        Some(Change { key, before })
    }
}

//! What the API server has of one kind.

use std::collections::{HashMap, HashSet};

use kube::{Resource, runtime::watcher::Event};

use super::ObjectName;

/// Objects of one kind. A LIST that has begun takes nothing away until it is
/// complete: partial data never shrinks what is known.
#[derive(Debug)]
pub struct Mirror<V> {
    /// Boxed, so that the room kept for more costs little.
    pub items: HashMap<ObjectName, Box<V>>,
    listing: Option<HashSet<ObjectName>>,
    /// Whether a LIST was complete once.
    pub listed: bool,
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

/// One object's change: what it was, and that it is gone or not.
pub struct Change<V> {
    pub name: ObjectName,
    pub before: Option<Box<V>>,
}

impl<V> Mirror<V> {
    pub fn get(&self, name: &ObjectName) -> Option<&V> {
        self.items.get(name).map(Box::as_ref)
    }

    pub fn apply<K: Resource>(
        &mut self,
        event: Event<K>,
        read: impl Fn(&K) -> V,
    ) -> Vec<Change<V>> {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(ObjectName::of(&object));
                }
                vec![self.insert(&object, read)]
            }
            Event::Apply(object) => vec![self.insert(&object, read)],
            Event::Delete(object) => self.remove(ObjectName::of(&object)).into_iter().collect(),
            Event::InitDone => {
                self.listed = true;
                let seen = self.listing.take().unwrap_or_default();
                let gone: Vec<ObjectName> = self
                    .items
                    .keys()
                    .filter(|name| !seen.contains(name))
                    .cloned()
                    .collect();
                gone.into_iter()
                    .filter_map(|name| self.remove(name))
                    .collect()
            }
        }
    }

    fn insert<K: Resource>(&mut self, object: &K, read: impl Fn(&K) -> V) -> Change<V> {
        let name = ObjectName::of(object);
        let before = self.items.insert(name.clone(), Box::new(read(object)));
        Change { name, before }
    }

    fn remove(&mut self, name: ObjectName) -> Option<Change<V>> {
        let before = Some(self.items.remove(&name)?);
        Some(Change { name, before })
    }
}

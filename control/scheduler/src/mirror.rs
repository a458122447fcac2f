//! One kind as the API has it, so that a watch's events become changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};

/// A created (no `old`), changed or removed (no `new`) object.
#[derive(Debug)]
pub struct Change<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

type Key = (Option<String>, String);

pub struct Mirror<K> {
    objects: HashMap<Key, Arc<K>>,
    /// What the list under way has brought.
    listed: HashSet<Key>,
    synced: bool,
}

impl<K> Default for Mirror<K> {
    fn default() -> Mirror<K> {
        Mirror {
            objects: HashMap::new(),
            listed: HashSet::new(),
            synced: false,
        }
    }
}

impl<K: Resource> Mirror<K> {
    /// A complete list has been seen.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    pub fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                self.put(object)
            }
            Event::InitDone => {
                self.synced = true;
                let listed = std::mem::take(&mut self.listed);
                let gone = self.objects.extract_if(|key, _| !listed.contains(key));
                gone.map(|(_, old)| removal(old)).collect()
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => {
                let old = self.objects.remove(&key(&object));
                old.map(removal).into_iter().collect()
            }
        }
    }

    fn put(&mut self, mut object: K) -> Vec<Change<K>> {
        // Nobody here reads it, and it is often the larger half of an object.
        object.meta_mut().managed_fields = None;
        let new = Arc::new(object);
        let old = self.objects.insert(key(new.as_ref()), new.clone());
        let Some(old) = old else {
            let new = Some(new);
            return vec![Change { old: None, new }];
        };
        if old.meta().resource_version == new.meta().resource_version {
            return Vec::new();
        }
        // Deleted and made again while the watch was down.
        if old.meta().uid != new.meta().uid {
            let new = Some(new);
            return vec![removal(old), Change { old: None, new }];
        }
        vec![Change {
            old: Some(old),
            new: Some(new),
        }]
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

fn removal<K>(old: Arc<K>) -> Change<K> {
    Change {
        old: Some(old),
        new: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
        let metadata =
            json!({"name": name, "namespace": "d", "uid": uid, "resourceVersion": version});
        serde_json::from_value(json!({ "metadata": metadata })).expect("a config map")
    }

    /// `-uid +uid` for each change.
    fn told(mirror: &mut Mirror<ConfigMap>, event: Event<ConfigMap>) -> String {
        let uid = |object: Option<Arc<ConfigMap>>| object.and_then(|object| object.uid());
        let changes = mirror.apply(event).into_iter();
        let words = changes.flat_map(|change| {
            let old = uid(change.old).map(|uid| format!("-{uid}"));
            let new = uid(change.new).map(|uid| format!("+{uid}"));
            old.into_iter().chain(new)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lists_and_events_become_changes() {
        let mut mirror = Mirror::default();
        let table = [
            (Event::Init, ""),
            (Event::InitApply(object("a", "1", "1")), "+1"),
            (Event::InitApply(object("b", "2", "2")), "+2"),
            (Event::InitDone, ""),
            (Event::Apply(object("a", "1", "1")), ""),
            (Event::Apply(object("a", "1", "3")), "-1 +1"),
            (Event::Delete(object("c", "9", "4")), ""),
            (Event::Init, ""),
            (Event::InitApply(object("a", "3", "9")), "-1 +3"),
            (Event::InitDone, "-2"),
            (Event::Delete(object("a", "3", "10")), "-3"),
        ];
        for (event, wanted) in table {
            let what = event.to_string();
            assert_eq!(told(&mut mirror, event), wanted, "{what}");
        }
        assert!(mirror.is_synced());
    }
}

//! A cache of one kind, fed by one watch, that tells its listeners what changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::error::chain;
use crate::key::{ObjectKey, revision_of};

/// A created (no `old`), changed or removed (no `new`) object.
pub struct Change<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The newest form there is.
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }

    /// Whether the change is one that garbage collection is about: not a mere status, mostly.
    pub fn is_about_life(&self) -> bool
    where
        K: Resource,
    {
        let (Some(old), Some(new)) = (&self.old, &self.new) else {
            return true;
        };
        let (old, new) = (old.meta(), new.meta());
        old.owner_references != new.owner_references
            || old.finalizers != new.finalizers
            || old.deletion_timestamp != new.deletion_timestamp
    }

    pub fn each(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

/// Called in the order of the watch, after the cache has the change. Must not block.
type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A point in the watch that a later cache must have passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    revision: u64,
    lists_begun: u64,
}

impl Mark {
    pub fn is_at(self, revision: u64) -> bool {
        self.revision == revision
    }

    #[cfg(test)]
    pub fn at(revision: u64) -> Mark {
        Mark {
            revision,
            lists_begun: 0,
        }
    }
}

/// Whom an object belongs to, of its own namespace.
type Owner<K> = fn(&K) -> Option<ObjectKey>;

struct State<K> {
    objects: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    /// By their owner and their names.
    owned: HashMap<ObjectKey, BTreeMap<String, Arc<K>>>,
    revision: u64,
    lists_begun: u64,
    /// `lists_begun` when the last complete list began.
    listed: u64,
}

pub struct Informer<K> {
    state: RwLock<State<K>>,
    owner: Owner<K>,
    listeners: RwLock<Vec<Listener<K>>>,
    synced: watch::Sender<bool>,
}

impl<K> Default for Informer<K> {
    /// Of objects that belong to nobody.
    fn default() -> Informer<K> {
        Informer::owned_by(|_| None)
    }
}

impl<K> Informer<K> {
    /// Finds objects by their owner as well, in a time that does not grow with the namespace.
    pub fn owned_by(owner: Owner<K>) -> Informer<K> {
        Informer {
            owner,
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                owned: HashMap::new(),
                revision: 0,
                lists_begun: 0,
                listed: 0,
            }),
            listeners: RwLock::default(),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K> Informer<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(listener));
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read(|state| state.objects.get(&key.namespace)?.get(&key.name).cloned())
    }

    /// All objects; of cluster-scoped kinds too.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read(|state| {
            state
                .objects
                .values()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect()
        })
    }

    /// Those of a namespace that `wanted` keeps, without cloning the others' pointers.
    pub fn select(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read(|state| {
            let objects = state
                .objects
                .get(namespace)
                .into_iter()
                .flat_map(BTreeMap::values);
            objects.filter(|object| wanted(object)).cloned().collect()
        })
    }

    /// What belongs to this owner.
    pub fn of(&self, owner: &ObjectKey) -> Vec<Arc<K>> {
        self.read(|state| {
            let objects = state.owned.get(owner).into_iter();
            objects.flat_map(BTreeMap::values).cloned().collect()
        })
    }

    pub async fn wait_synced(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// The point at which a write that answered with `object` is visible.
    pub fn mark(&self, object: &K) -> Mark {
        self.read(|state| Mark {
            revision: revision_of(object),
            lists_begun: state.lists_begun,
        })
    }

    /// Whether the cache contains what was written at the mark: the watch has come that far, or
    /// everything was listed anew since.
    pub fn has_passed(&self, mark: Mark) -> bool {
        self.read(|state| state.revision >= mark.revision || state.listed > mark.lists_begun)
    }

    /// Follows the API until shutdown.
    pub async fn run(&self, api: Api<K>, shutdown: CancellationToken) {
        self.run_selected(api, watcher::Config::default(), shutdown)
            .await;
    }

    /// Follows a part of the kind.
    pub async fn run_selected(
        &self,
        api: Api<K>,
        selected: watcher::Config,
        shutdown: CancellationToken,
    ) {
        let path = api.resource_url().to_owned();
        let mut events = std::pin::pin!(watcher(api, selected).default_backoff());
        let mut listed: HashSet<ObjectKey> = HashSet::new();
        let mut listed_revision = 0;
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(watcher::Event::Init)) => {
                    listed.clear();
                    listed_revision = 0;
                    self.write(|state| state.lists_begun += 1);
                }
                Some(Ok(watcher::Event::InitApply(object))) => {
                    listed.insert(ObjectKey::of(&object));
                    listed_revision = listed_revision.max(revision_of(&object));
                    self.insert(object);
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    self.keep_only(&listed);
                    // Not before: a list comes in the order of names.
                    self.write(|state| {
                        state.listed = state.lists_begun;
                        state.revision = state.revision.max(listed_revision);
                    });
                    self.synced.send_replace(true);
                }
                Some(Ok(watcher::Event::Apply(object))) => self.apply(object),
                Some(Ok(watcher::Event::Delete(object))) => self.remove(object),
                Some(Err(error)) => warn!("watch {path}: {}", chain(&error)),
                None => return,
            }
        }
    }

    pub(crate) fn apply(&self, object: K) {
        let revision = revision_of(&object);
        // The cache has it before it says so, and listeners hear of it when it does.
        let change = self.put(object);
        self.write(|state| state.revision = state.revision.max(revision));
        change.iter().for_each(|change| self.tell(change));
    }

    fn insert(&self, object: K) {
        self.put(object).iter().for_each(|change| self.tell(change));
    }

    fn put(&self, mut object: K) -> Vec<Change<K>> {
        // Nobody here reads it, and it is often the larger half of an object.
        object.meta_mut().managed_fields = None;
        let key = ObjectKey::of(&object);
        let new = Arc::new(object);
        let old = self.write(|state| {
            let objects = state.objects.entry(key.namespace).or_default();
            let old = objects.insert(key.name.clone(), new.clone());
            if let Some(old) = &old {
                self.disown(state, old, &key.name);
            }
            if let Some(owner) = (self.owner)(&new) {
                let owned = state.owned.entry(owner).or_default();
                owned.insert(key.name, new.clone());
            }
            old
        });
        if old
            .as_ref()
            .is_some_and(|old| old.meta().resource_version == new.meta().resource_version)
        {
            return Vec::new();
        }
        // Deleted and made again while the watch was down.
        let replaced = old
            .as_ref()
            .filter(|old| old.meta().uid != new.meta().uid)
            .cloned();
        match replaced {
            Some(gone) => vec![
                Change {
                    old: Some(gone),
                    new: None,
                },
                Change {
                    old: None,
                    new: Some(new),
                },
            ],
            None => vec![Change {
                old,
                new: Some(new),
            }],
        }
    }

    pub(crate) fn remove(&self, object: K) {
        let key = ObjectKey::of(&object);
        let old = self.write(|state| {
            state.revision = state.revision.max(revision_of(&object));
            self.take(state, &key)
        });
        let last = Arc::new(object);
        self.tell(&Change {
            old: old.or(Some(last)),
            new: None,
        });
    }

    fn keep_only(&self, listed: &HashSet<ObjectKey>) {
        let gone: Vec<Arc<K>> = self
            .all()
            .into_iter()
            .filter(|object| !listed.contains(&ObjectKey::of(object.as_ref())))
            .collect();
        for object in gone {
            self.write(|state| self.take(state, &ObjectKey::of(object.as_ref())));
            self.tell(&Change {
                old: Some(object),
                new: None,
            });
        }
    }

    fn take(&self, state: &mut State<K>, key: &ObjectKey) -> Option<Arc<K>> {
        let objects = state.objects.get_mut(&key.namespace)?;
        let old = objects.remove(&key.name)?;
        if objects.is_empty() {
            state.objects.remove(&key.namespace);
        }
        self.disown(state, &old, &key.name);
        Some(old)
    }

    fn disown(&self, state: &mut State<K>, old: &K, name: &str) {
        if let Some(owner) = (self.owner)(old)
            && let Some(owned) = state.owned.get_mut(&owner)
        {
            owned.remove(name);
            if owned.is_empty() {
                state.owned.remove(&owner);
            }
        }
    }

    fn tell(&self, change: &Change<K>) {
        for listener in self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            listener(change);
        }
    }

    fn read<T>(&self, f: impl FnOnce(&State<K>) -> T) -> T {
        f(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut State<K>) -> T) -> T {
        f(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::ConfigMap;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn object(name: &str, uid: &str, revision: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("default".into()),
                name: Some(name.into()),
                uid: Some(uid.into()),
                resource_version: Some(revision.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    type Heard = Arc<Mutex<Vec<(bool, bool)>>>;

    fn watched() -> (Arc<Informer<ConfigMap>>, Heard) {
        let informer = Arc::new(Informer::default());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        informer.listen(move |change: &Change<ConfigMap>| {
            log.lock()
                .expect("no panic")
                .push((change.old.is_some(), change.new.is_some()));
        });
        (informer, seen)
    }

    #[test]
    fn listeners_hear_creation_change_and_removal_once() {
        let (informer, seen) = watched();
        informer.apply(object("a", "1", "1"));
        informer.apply(object("a", "1", "1"));
        informer.apply(object("a", "1", "2"));
        informer.remove(object("a", "1", "3"));
        assert_eq!(
            *seen.lock().expect("no panic"),
            [(false, true), (true, true), (true, false)]
        );
        assert!(informer.all().is_empty());
    }

    #[test]
    fn an_object_made_again_is_a_removal_and_a_creation() {
        let (informer, seen) = watched();
        informer.apply(object("a", "1", "1"));
        informer.apply(object("a", "2", "5"));
        assert_eq!(
            *seen.lock().expect("no panic"),
            [(false, true), (true, false), (false, true)]
        );
    }

    #[test]
    fn objects_are_found_by_their_owner_as_long_as_they_have_it() {
        let owned = |name: &str, owner: Option<&str>| {
            let mut object = object(name, name, "1");
            let label = |owner: &str| [("owner".to_owned(), owner.to_owned())].into();
            object.metadata.labels = owner.map(label);
            object
        };
        let informer = Informer::owned_by(|object: &ConfigMap| {
            let labels = object.metadata.labels.as_ref()?;
            Some(ObjectKey::new("default", labels.get("owner")?))
        });
        let of = |owner: &str| -> Vec<String> {
            let objects = informer.of(&ObjectKey::new("default", owner));
            let names = objects
                .iter()
                .filter_map(|object| object.metadata.name.clone());
            names.collect()
        };
        informer.apply(owned("b", Some("x")));
        informer.apply(owned("a", Some("x")));
        informer.apply(owned("c", None));
        assert_eq!((of("x"), of("y")), (vec!["a".into(), "b".into()], vec![]));
        informer.apply(owned("a", Some("y")));
        assert_eq!((of("x"), of("y")), (vec!["b".into()], vec!["a".into()]));
        informer.apply(owned("a", None));
        informer.remove(owned("b", Some("x")));
        assert!(informer.read(|state| state.owned.is_empty()));
        assert_eq!(informer.all().len(), 2);
    }

    #[test]
    fn a_mark_is_passed_by_the_watch_or_by_a_new_list() {
        let (informer, _) = watched();
        informer.apply(object("a", "1", "5"));
        let mark = informer.mark(&object("b", "2", "7"));
        assert!(!informer.has_passed(mark));
        informer.apply(object("c", "3", "8"));
        assert!(informer.has_passed(mark));

        let mark = informer.mark(&object("b", "2", "90"));
        // A list that had begun before the write proves nothing.
        informer.write(|state| state.listed = state.lists_begun);
        assert!(!informer.has_passed(mark));
        informer.write(|state| state.lists_begun += 1);
        informer.write(|state| state.listed = state.lists_begun);
        assert!(informer.has_passed(mark));
    }
}

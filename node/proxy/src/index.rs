//! What the API server said, by service, and what of it changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use k8s_openapi::api::{core, discovery};
use kube::{ResourceExt, runtime::watcher::Event};

use crate::{
    model::ServicePort,
    wanted::{Service, Slice, wanted},
};

#[cfg(test)]
mod tests;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ObjectName {
    fn of(object: &impl ResourceExt) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        }
    }
}

/// Objects of one kind. A LIST that has begun takes nothing away until it is
/// complete: partial data never shrinks what is known.
#[derive(Debug)]
struct Mirror<V> {
    items: HashMap<ObjectName, V>,
    listing: Option<HashSet<ObjectName>>,
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

/// One object's change: what it was, and that it is gone or not.
struct Change<V> {
    name: ObjectName,
    before: Option<V>,
}

impl<V> Mirror<V> {
    fn apply<K: ResourceExt>(&mut self, event: Event<K>, read: impl Fn(&K) -> V) -> Vec<Change<V>> {
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

    fn insert<K: ResourceExt>(&mut self, object: &K, read: impl Fn(&K) -> V) -> Change<V> {
        let name = ObjectName::of(object);
        let before = self.items.insert(name.clone(), read(object));
        Change { name, before }
    }

    fn remove(&mut self, name: ObjectName) -> Option<Change<V>> {
        let before = Some(self.items.remove(&name)?);
        Some(Change { name, before })
    }
}

/// A slice and the service it is for.
#[derive(Debug, PartialEq, Eq)]
struct OwnedSlice {
    service: Option<ObjectName>,
    slice: Slice,
}

#[derive(Debug, Default)]
pub struct Index {
    /// Which Services are ours: [`Service::read`].
    proxy_name: Option<String>,
    services: Mirror<Service>,
    slices: Mirror<OwnedSlice>,
    by_service: HashMap<ObjectName, BTreeSet<ObjectName>>,
    /// Services whose wanted state may differ from what was taken last.
    changed: BTreeSet<ObjectName>,
}

impl Index {
    pub fn new(proxy_name: Option<String>) -> Self {
        Self {
            proxy_name,
            ..Self::default()
        }
    }

    pub fn service(&mut self, event: Event<core::v1::Service>) {
        let proxy_name = self.proxy_name.as_deref();
        let read = |service: &core::v1::Service| Service::read(service, proxy_name);
        for change in self.services.apply(event, read) {
            // Status and metadata change far more often than what matters here.
            if self.services.items.get(&change.name) != change.before.as_ref() {
                self.changed.insert(change.name);
            }
        }
    }

    pub fn slice(&mut self, event: Event<discovery::v1::EndpointSlice>) {
        for Change { name, before } in self.slices.apply(event, OwnedSlice::read) {
            let after = self.slices.items.get(&name);
            if after == before.as_ref() {
                continue;
            }
            let owner = |slice: Option<&OwnedSlice>| slice.and_then(|slice| slice.service.clone());
            let (old, new) = (owner(before.as_ref()), owner(after));
            if let Some(old) = old {
                let slices = self.by_service.entry(old.clone()).or_default();
                slices.remove(&name);
                if slices.is_empty() {
                    self.by_service.remove(&old);
                }
                self.changed.insert(old);
            }
            if let Some(new) = new {
                self.by_service.entry(new.clone()).or_default().insert(name);
                self.changed.insert(new);
            }
        }
    }

    /// Whether both kinds were listed completely once: before that, nothing may
    /// be concluded from what is absent.
    pub fn complete(&self) -> bool {
        self.services.listed && self.slices.listed
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Looks at these again.
    pub fn touch(&mut self, names: impl IntoIterator<Item = ObjectName>) {
        self.changed.extend(names);
    }

    /// The changed services with all they want; those that are gone want nothing.
    pub fn take_changes(&mut self) -> BTreeMap<ObjectName, Vec<ServicePort>> {
        std::mem::take(&mut self.changed)
            .into_iter()
            .map(|name| (name.clone(), self.wanted(&name)))
            .collect()
    }

    /// Every service, as if all had changed.
    pub fn take_all(&mut self) -> BTreeMap<ObjectName, Vec<ServicePort>> {
        self.changed.extend(self.services.items.keys().cloned());
        self.take_changes()
    }

    fn wanted(&self, name: &ObjectName) -> Vec<ServicePort> {
        let Some(service) = self.services.items.get(name) else {
            return Vec::new();
        };
        let slices = self.by_service.get(name).into_iter().flatten();
        wanted(
            service,
            slices
                .filter_map(|slice| self.slices.items.get(slice))
                .map(|owned| &owned.slice),
        )
    }
}

impl OwnedSlice {
    fn read(slice: &discovery::v1::EndpointSlice) -> Self {
        let service = slice
            .labels()
            .get(SERVICE_NAME_LABEL)
            .map(|service| ObjectName {
                namespace: slice.namespace().unwrap_or_default(),
                name: service.clone(),
            });
        Self {
            service,
            slice: Slice::from(slice),
        }
    }
}

//! Who owns whom, as far as the watches have told.
//!
//! The graph only says what is worth a look; what is done to an object is decided on its live
//! state.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::key::ObjectKind;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
/// Owners known to be gone that are remembered; a uid never comes back.
const ABSENT: usize = 500;

pub type Uid = Arc<str>;

/// Where an object is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub kind: ObjectKind,
    /// Empty for cluster-scoped objects. Of an owner only known by reference: its dependent's.
    pub namespace: String,
    pub name: String,
    pub uid: Uid,
}

impl Identity {
    /// Where an owner reference made in `namespace` leads.
    fn referred(owner: &OwnerReference, namespace: &str) -> Identity {
        Identity {
            kind: ObjectKind {
                api_version: owner.api_version.clone(),
                kind: owner.kind.clone(),
            },
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.as_str().into(),
        }
    }
}

#[derive(Debug)]
struct Node {
    identity: Identity,
    /// Known only because somebody names it as owner.
    by_reference: bool,
    owners: Vec<OwnerReference>,
    dependents: HashSet<Uid>,
    deleted: bool,
    /// Deleted, and waits for its dependents.
    foreground: bool,
    /// Deleted, and lets its dependents live.
    orphans: bool,
}

/// A node as a worker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub identity: Identity,
    pub by_reference: bool,
    pub deleted: bool,
    pub foreground: bool,
    pub orphans: bool,
    pub has_dependents: bool,
    /// Some dependent waits for its own dependents: the sign of a circle.
    pub dependent_waits: bool,
}

#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// With the place, as a reference may name a living owner in a wrong one.
    absent: HashSet<Identity>,
}

impl Graph {
    /// An object as it is now. Answers which nodes are worth a look.
    pub fn apply(&mut self, identity: Identity, meta: &ObjectMeta) -> Vec<Uid> {
        let uid = identity.uid.clone();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let deleted = meta.deletion_timestamp.is_some();
        let has = |finalizer: &str| {
            deleted && meta.finalizers.iter().flatten().any(|own| own == finalizer)
        };
        let (foreground, orphans) = (has(FOREGROUND), has(ORPHAN));
        let mut look = Vec::new();
        look.extend(self.misled(&identity));
        let mut before = Vec::new();
        match self.nodes.get_mut(&uid) {
            Some(node) => {
                if foreground && !node.foreground {
                    look.extend(node.dependents.iter().cloned());
                    look.push(uid.clone());
                }
                if orphans && !node.orphans {
                    look.push(uid.clone());
                }
                before = std::mem::replace(&mut node.owners, owners.clone());
                node.identity = identity.clone();
                node.by_reference = false;
                (node.deleted, node.foreground, node.orphans) = (deleted, foreground, orphans);
            }
            None => {
                if foreground || orphans {
                    look.push(uid.clone());
                }
                let node = Node {
                    identity: identity.clone(),
                    by_reference: false,
                    owners: owners.clone(),
                    dependents: HashSet::new(),
                    deleted,
                    foreground,
                    orphans,
                };
                self.nodes.insert(uid.clone(), node);
            }
        }
        for old in &before {
            let kept = owners.iter().find(|own| own.uid == old.uid);
            if kept.is_none() {
                self.unlink(&old.uid, &uid);
            }
            let blocked = |own: &OwnerReference| own.block_owner_deletion == Some(true);
            // One dependent fewer to wait for.
            if blocked(old) && !kept.is_some_and(blocked) {
                self.look_if_waiting(&old.uid, &mut look);
            }
        }
        for owner in &owners {
            if !before.iter().any(|old| old.uid == owner.uid) {
                self.link(owner, &identity, &mut look);
            }
        }
        look
    }

    /// An object is gone. Answers which nodes are worth a look.
    pub fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut look: Vec<Uid> = node.dependents.iter().cloned().collect();
        if !look.is_empty() {
            self.remember_absent(node.identity);
        }
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            self.look_if_waiting(&owner.uid, &mut look);
        }
        look
    }

    /// There is no such owner at the place that some dependents name. Answers which nodes are worth
    /// a look: those dependents, and the owner's next place where others name another.
    pub fn remove_absent(&mut self, place: &Identity) -> Vec<Uid> {
        let named_here: Vec<(Uid, Option<Identity>)> = match self.nodes.get(&place.uid) {
            // It came in the meantime.
            Some(node) if !node.by_reference => return Vec::new(),
            Some(node) => self
                .dependents(node)
                .map(|own| (own.identity.uid.clone(), reference_of(own, &place.uid)))
                .collect(),
            None => return Vec::new(),
        };
        self.remember_absent(place.clone());
        let (gone, others): (Vec<_>, Vec<_>) = named_here
            .into_iter()
            .partition(|(_, named)| named.as_ref().is_none_or(|named| named == place));
        let mut look: Vec<Uid> = gone.into_iter().map(|(uid, _)| uid).collect();
        let next = others.iter().find_map(|(_, named)| named.clone());
        match (self.nodes.get_mut(&place.uid), next) {
            (Some(node), Some(next)) => {
                node.identity = next;
                node.dependents = others.into_iter().map(|(uid, _)| uid).collect();
                look.push(place.uid.clone());
            }
            _ => drop(self.nodes.remove(&place.uid)),
        }
        look
    }

    fn remember_absent(&mut self, place: Identity) {
        if self.absent.len() >= ABSENT {
            self.absent.clear();
        }
        self.absent.insert(place);
    }

    /// Whether the owner that a reference made in `namespace` leads to is known to be gone.
    pub fn is_absent(&self, owner: &OwnerReference, namespace: &str) -> bool {
        let mut place = Identity::referred(owner, namespace);
        if self.absent.contains(&place) {
            return true;
        }
        place.namespace.clear();
        self.absent.contains(&place)
    }

    /// Dependents that name a real object by a name or in a place that is not its own.
    fn misled(&self, object: &Identity) -> Vec<Uid> {
        let Some(node) = self.nodes.get(&object.uid).filter(|own| own.by_reference) else {
            return Vec::new();
        };
        let wrong = |own: &&Node| {
            let named = reference_of(own, &object.uid);
            named.is_some_and(|named| !is_at(&named, object))
        };
        self.dependents(node)
            .filter(wrong)
            .map(|own| own.identity.uid.clone())
            .collect()
    }

    pub fn view(&self, uid: &str) -> Option<View> {
        let node = self.nodes.get(uid)?;
        Some(View {
            identity: node.identity.clone(),
            by_reference: node.by_reference,
            deleted: node.deleted,
            foreground: node.foreground,
            orphans: node.orphans,
            has_dependents: !node.dependents.is_empty(),
            dependent_waits: self.dependents(node).any(|own| own.foreground),
        })
    }

    /// Dependents the owner must not be removed before: their uid, and whether they wait for
    /// dependents of their own.
    pub fn blocking(&self, uid: &str) -> Vec<(Uid, bool)> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let blocks = |own: &&Node| {
            own.owners
                .iter()
                .any(|owner| owner.uid == *uid && owner.block_owner_deletion == Some(true))
        };
        self.dependents(node)
            .filter(blocks)
            .map(|own| (own.identity.uid.clone(), own.foreground))
            .collect()
    }

    pub fn dependents_of(&self, uid: &str) -> Vec<Uid> {
        let node = self.nodes.get(uid);
        node.map(|node| node.dependents.iter().cloned().collect())
            .unwrap_or_default()
    }

    fn dependents<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        node.dependents.iter().filter_map(|uid| self.nodes.get(uid))
    }

    fn link(&mut self, owner: &OwnerReference, dependent: &Identity, look: &mut Vec<Uid>) {
        let reference = Identity::referred(owner, &dependent.namespace);
        if self.is_absent(owner, &dependent.namespace) {
            look.push(dependent.uid.clone());
            return;
        }
        match self.nodes.get_mut(owner.uid.as_str()) {
            Some(node) => {
                node.dependents.insert(dependent.uid.clone());
                let misnamed = !node.by_reference && !is_at(&reference, &node.identity);
                if misnamed || node.foreground {
                    look.push(dependent.uid.clone());
                }
            }
            None => {
                // It may not have been seen yet, or be gone since long: somebody must find out.
                look.push(reference.uid.clone());
                let node = Node {
                    by_reference: true,
                    owners: Vec::new(),
                    dependents: [dependent.uid.clone()].into(),
                    deleted: false,
                    foreground: false,
                    orphans: false,
                    identity: reference.clone(),
                };
                self.nodes.insert(reference.uid, node);
            }
        }
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        let Some(node) = self.nodes.get_mut(owner) else {
            return;
        };
        node.dependents.remove(dependent);
        if node.by_reference && node.dependents.is_empty() {
            self.nodes.remove(owner);
        }
    }

    fn look_if_waiting(&self, owner: &str, look: &mut Vec<Uid>) {
        if let Some(node) = self.nodes.get(owner)
            && node.foreground
        {
            look.push(node.identity.uid.clone());
        }
    }
}

/// Where a dependent says its owner is.
fn reference_of(dependent: &Node, owner: &str) -> Option<Identity> {
    let mut owners = dependent.owners.iter();
    let reference = owners.find(|own| own.uid == owner)?;
    Some(Identity::referred(reference, &dependent.identity.namespace))
}

/// Whether a reference made in some namespace leads to the object: a cluster-scoped owner has none.
fn is_at(reference: &Identity, object: &Identity) -> bool {
    reference.kind == object.kind
        && reference.name == object.name
        && (object.namespace.is_empty() || object.namespace == reference.namespace)
}

#[cfg(test)]
mod tests;

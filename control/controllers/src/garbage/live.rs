//! Live reads and writes of metadata, whatever the kind.

use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::decide::{Owner, Propagation};
use super::graph::{FOREGROUND, Identity};
use crate::error::{Attempt as _, Result, found};
use crate::key::{ObjectKey, ObjectKind, is_deleted, name_of, namespace_of, uid_of};
use crate::kinds::{Kind, Metadata};

/// How an owner reference turned out.
pub enum Lookup {
    Owner(Owner),
    /// A cluster-scoped object cannot be owned by something inside a namespace.
    OutOfScope,
    UnknownKind,
}

pub struct Live {
    client: Client,
    kinds: RwLock<Vec<Arc<Kind>>>,
}

impl Live {
    pub fn new(client: Client) -> Live {
        Live {
            client,
            kinds: RwLock::default(),
        }
    }

    pub fn know(&self, kinds: Vec<Arc<Kind>>) {
        *self.kinds.write().unwrap_or_else(PoisonError::into_inner) = kinds;
    }

    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        self.kinds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn kind(&self, id: &ObjectKind) -> Option<Arc<Kind>> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.iter().find(|kind| kind.id() == *id).cloned()
    }

    /// The object, if it is still the one with this uid.
    pub async fn get(&self, kind: &Kind, identity: &Identity) -> Result<Option<Metadata>> {
        let api: Api<Metadata> = kind.api(&self.client, &identity.namespace);
        let read = found(api.get(&identity.name).await);
        let read = read.during(|| format!("read {} {}", kind.resource.kind, key(identity)))?;
        Ok(read.filter(|object| uid_of(object) == &*identity.uid))
    }

    /// The owner that an object in `namespace` names.
    pub async fn owner(&self, namespace: &str, reference: &OwnerReference) -> Result<Lookup> {
        let id = ObjectKind {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
        };
        let Some(kind) = self.kind(&id) else {
            return Ok(Lookup::UnknownKind);
        };
        if kind.namespaced && namespace.is_empty() {
            return Ok(Lookup::OutOfScope);
        }
        let identity = Identity {
            kind: id,
            namespace: namespace.to_owned(),
            name: reference.name.clone(),
            uid: reference.uid.as_str().into(),
        };
        let Some(owner) = self.get(&kind, &identity).await? else {
            return Ok(Lookup::Owner(Owner::Absent));
        };
        let waits = is_deleted(&owner) && has_finalizer(&owner, FOREGROUND);
        Ok(Lookup::Owner(match waits {
            true => Owner::Waiting,
            false => Owner::Solid,
        }))
    }

    /// Every object that names `owner`, by asking the server: no watch can be behind it.
    pub async fn dependents(
        &self,
        owner: &Identity,
        namespaced: bool,
    ) -> Result<Vec<(Arc<Kind>, Metadata)>> {
        let mut dependents = Vec::new();
        let namespace = if namespaced { &owner.namespace } else { "" };
        for kind in self.kinds() {
            if !kind.is_collectable() || (namespaced && !kind.namespaced) {
                continue;
            }
            let api: Api<Metadata> = kind.api(&self.client, namespace);
            let listed = api.list(&ListParams::default()).await;
            let listed = listed.during(|| format!("list {}", kind.resource.plural))?;
            let own = listed.items.into_iter().filter(|object| {
                let mut owners = object.metadata.owner_references.iter().flatten();
                owners.any(|reference| reference.uid == *owner.uid)
            });
            dependents.extend(own.map(|object| (kind.clone(), object)));
        }
        Ok(dependents)
    }

    /// Deletes exactly the version that was decided on.
    pub async fn delete(
        &self,
        kind: &Kind,
        object: &Metadata,
        propagation: Propagation,
    ) -> Result<()> {
        let parameters = DeleteParams {
            propagation_policy: Some(match propagation {
                Propagation::Background => PropagationPolicy::Background,
                Propagation::Foreground => PropagationPolicy::Foreground,
                Propagation::Orphan => PropagationPolicy::Orphan,
            }),
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: object.metadata.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let api: Api<DynamicObject> = kind.api(&self.client, namespace_of(object));
        found(api.delete(name_of(object), &parameters).await)
            .during(|| format!("delete {} {}", kind.resource.kind, ObjectKey::of(object)))?;
        Ok(())
    }

    pub async fn write_owners(
        &self,
        kind: &Kind,
        object: &Metadata,
        owners: Vec<OwnerReference>,
    ) -> Result<Option<Metadata>> {
        self.patch(kind, object, json!({"ownerReferences": owners}))
            .await
    }

    pub async fn remove_finalizer(
        &self,
        kind: &Kind,
        object: &Metadata,
        finalizer: &str,
    ) -> Result<()> {
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|own| own != finalizer);
        self.patch(kind, object, json!({"finalizers": finalizers}))
            .await?;
        Ok(())
    }

    /// Lists in metadata are written whole, so only onto the version they come from.
    async fn patch(
        &self,
        kind: &Kind,
        object: &Metadata,
        mut metadata: Value,
    ) -> Result<Option<Metadata>> {
        metadata["uid"] = json!(object.metadata.uid);
        metadata["resourceVersion"] = json!(object.metadata.resource_version);
        let api: Api<Metadata> = kind.api(&self.client, namespace_of(object));
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let patched = api
            .patch(name_of(object), &PatchParams::default(), &patch)
            .await;
        found(patched).during(|| {
            let (kind, key) = (&kind.resource.kind, ObjectKey::of(object));
            format!("write metadata of {kind} {key}")
        })
    }
}

pub fn has_finalizer(object: &Metadata, finalizer: &str) -> bool {
    object
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|own| own == finalizer)
}

fn key(identity: &Identity) -> ObjectKey {
    ObjectKey::new(&identity.namespace, &identity.name)
}

//! Which dependents a controller has: those it owns, orphans it adopts, strangers it lets go.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt as _};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{Attempt as _, Error, Result, found};
use crate::key::{ObjectKey, controller_of, is_deleted, name_of, uid_of};

/// What to do with one candidate.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

/// `matches`: the owner's selector selects the candidate.
pub fn claim<K: Resource>(
    owner_uid: &str,
    owner_deleted: bool,
    candidate: &K,
    matches: bool,
) -> Claim {
    match controller_of(candidate) {
        Some(controller) if controller.uid != owner_uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_deleted => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !matches || owner_deleted || is_deleted(candidate) => Claim::Ignore,
        None => Claim::Adopt,
    }
}

pub fn selector(object: &dyn std::fmt::Display, selector: &LabelSelector) -> Result<Selector> {
    Selector::try_from(selector.clone()).map_err(|source| Error::Selector {
        object: object.to_string(),
        source,
    })
}

pub fn selects(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    match labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}

/// A selector without terms would own everything; Kubernetes' controllers refuse it.
pub fn is_empty(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty)
}

pub fn controller_reference<O: Resource<DynamicType = ()>>(owner: &O) -> OwnerReference {
    OwnerReference {
        api_version: O::api_version(&()).into_owned(),
        kind: O::kind(&()).into_owned(),
        name: name_of(owner).to_owned(),
        uid: uid_of(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Claims candidates of `owner`, patching what changes hands. The answer holds what is owned now.
pub async fn claim_all<O, K>(
    owners: &Api<O>,
    owner: &O,
    dependents: &Api<K>,
    candidates: Vec<Arc<K>>,
    selector: &Selector,
) -> Result<Vec<Arc<K>>>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut owned = Vec::with_capacity(candidates.len());
    let mut may_adopt = None;
    for candidate in candidates {
        let matches = selects(selector, candidate.meta().labels.as_ref());
        match claim(
            uid_of(owner),
            is_deleted(owner),
            candidate.as_ref(),
            matches,
        ) {
            Claim::Ignore => {}
            Claim::Keep => owned.push(candidate),
            Claim::Release => release(dependents, owner, candidate.as_ref()).await?,
            Claim::Adopt => {
                if may_adopt.is_none() {
                    may_adopt = Some(is_alive(owners, owner).await?);
                }
                if may_adopt == Some(true)
                    && let Some(adopted) = adopt(dependents, owner, candidate.as_ref()).await?
                {
                    owned.push(Arc::new(adopted));
                }
            }
        }
    }
    Ok(owned)
}

/// The cache may show an owner that was deleted a moment ago; it must not collect new dependents.
async fn is_alive<O>(owners: &Api<O>, owner: &O) -> Result<bool>
where
    O: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let current = found(owners.get(name_of(owner)).await)
        .during(|| format!("look up {}", ObjectKey::of(owner)))?;
    Ok(current.is_some_and(|current| uid_of(&current) == uid_of(owner) && !is_deleted(&current)))
}

async fn adopt<O, K>(dependents: &Api<K>, owner: &O, candidate: &K) -> Result<Option<K>>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut owners = candidate
        .meta()
        .owner_references
        .clone()
        .unwrap_or_default();
    owners.retain(|own| own.uid != uid_of(owner));
    owners.push(controller_reference(owner));
    write_owners(dependents, candidate, &owners).await
}

async fn release<O, K>(dependents: &Api<K>, owner: &O, candidate: &K) -> Result<()>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut owners = candidate
        .meta()
        .owner_references
        .clone()
        .unwrap_or_default();
    owners.retain(|own| own.uid != uid_of(owner));
    write_owners(dependents, candidate, &owners).await?;
    Ok(())
}

/// Only on the very version that was decided on: owner references are a list, written whole.
async fn write_owners<K>(
    dependents: &Api<K>,
    candidate: &K,
    owners: &[OwnerReference],
) -> Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({"metadata": {
        "uid": uid_of(candidate),
        "resourceVersion": candidate.meta().resource_version,
        "ownerReferences": owners,
    }});
    let patched = dependents
        .patch(
            name_of(candidate),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    found(patched).during(|| {
        format!(
            "write owners of {} {}",
            K::kind(&()),
            ObjectKey::of(candidate)
        )
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::*;

    #[test]
    fn claims() {
        use Claim::{Adopt, Ignore, Keep, Release};
        // (controller, candidate deleted, owner deleted, selected) -> claim
        let table = [
            (Some("me"), false, false, true, Keep),
            (Some("me"), false, false, false, Release),
            (Some("me"), false, true, false, Ignore),
            (Some("me"), true, false, true, Keep),
            (Some("other"), false, false, true, Ignore),
            (None, false, false, true, Adopt),
            (None, false, false, false, Ignore),
            (None, true, false, true, Ignore),
            (None, false, true, true, Ignore),
        ];
        for (controller, deleted, owner_deleted, matches, wanted) in table {
            let pod = Pod {
                metadata: ObjectMeta {
                    deletion_timestamp: deleted.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
                    owner_references: controller.map(|uid| {
                        vec![OwnerReference {
                            uid: uid.into(),
                            controller: Some(true),
                            ..OwnerReference::default()
                        }]
                    }),
                    ..ObjectMeta::default()
                },
                ..Pod::default()
            };
            assert_eq!(
                claim("me", owner_deleted, &pod, matches),
                wanted,
                "{controller:?} {deleted} {owner_deleted} {matches}"
            );
        }
    }
}

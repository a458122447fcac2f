//! Writes slices, and notes what was written until the cache shows it.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::plan::Changes;
use crate::error::{Attempt as _, Result, found};
use crate::informer::Informer;
use crate::key::{ObjectKey, name_of, uid_of};
use crate::pending::Pending;

pub async fn write(
    slices: &Api<EndpointSlice>,
    cache: &Informer<EndpointSlice>,
    pending: &Pending,
    key: &ObjectKey,
    changes: Changes,
) -> Result<()> {
    let parameters = PostParams::default();
    for slice in changes.create {
        let created = slices.create(&parameters, &slice).await;
        match created.during(|| format!("create an EndpointSlice of {key}")) {
            Ok(created) => pending.written(key, cache.mark(&created)),
            // The namespace takes its content along.
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    for slice in changes.update {
        let updated = slices.replace(name_of(&slice), &parameters, &slice).await;
        let updated =
            updated.during(|| format!("update EndpointSlice {}", ObjectKey::of(&slice)))?;
        pending.written(key, cache.mark(&updated));
    }
    for slice in changes.delete {
        let uid = uid_of(slice.as_ref());
        // Before the request: the watch may be faster than its answer.
        pending.deleted(key, uid);
        let preconditions = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(preconditions);
        let deleted = found(slices.delete(name_of(slice.as_ref()), &parameters).await);
        let deleted =
            deleted.during(|| format!("delete EndpointSlice {}", ObjectKey::of(slice.as_ref())));
        if !matches!(deleted, Ok(Some(_))) {
            pending.saw_deletion(key, uid);
        }
        deleted?;
    }
    Ok(())
}

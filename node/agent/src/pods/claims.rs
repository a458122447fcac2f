//! The volumes behind a pod's claims: read from the API server when they are needed, as the kubelet does.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::{Api, Client};

use super::context::Context;
use super::spec;
use super::text::api_words;

/// A volume and how the pod uses it.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub volume: Arc<PersistentVolume>,
    pub read_only: bool,
}

/// Or why there is none, by the names of the pod's volumes.
pub type Claims = BTreeMap<String, Result<Claimed, ClaimError>>;

/// In the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("error processing PVC {0}: failed to fetch PVC from API server: {1}")]
    Fetch(String, String),
    #[error("error processing PVC {0}: PVC is being deleted")]
    Deleted(String),
    #[error("error processing PVC {0}: PVC is not bound")]
    Unbound(String),
    #[error("error processing PVC {0}: PVC {0} was not created for pod {1} (pod is not owner)")]
    NotOwner(String, String),
    #[error("failed to fetch PV {0} from API server: {1}")]
    FetchVolume(String, String),
    #[error("found PV object {0} with nil pv.Spec.ClaimRef indicating it is not claimed")]
    Unclaimed(String),
    #[error(
        "found PV object {0} with a pv.Spec.ClaimRef.UID {1} that does not point to the claim {2}"
    )]
    Others(String, String, String),
    #[error("volume uses the ReadWriteOncePod access mode and is already in use by another pod")]
    InUse,
    #[error("{0}")]
    HostPath(String),
}

/// The claim of a pod's volume, and whether the pod only reads.
fn wanted(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only == Some(true)));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", spec::name(pod), volume.name), false))
}

/// Those of `volumes` that are claims.
pub async fn resolve(context: &Context, pod: &Pod, volumes: Vec<&Volume>) -> Claims {
    let claims = volumes.into_iter().filter_map(|volume| {
        let (claim, read_only) = wanted(pod, volume)?;
        Some(async move {
            let found = one(context, pod, volume, &claim).await;
            let claimed = found.map(|volume| Claimed { volume, read_only });
            (volume.name.clone(), claimed)
        })
    });
    futures::future::join_all(claims)
        .await
        .into_iter()
        .collect()
}

async fn one(
    context: &Context,
    pod: &Pod,
    volume: &Volume,
    name: &str,
) -> Result<Arc<PersistentVolume>, ClaimError> {
    let claim = claim(&context.client, pod, name).await?;
    let volume_name = bound(pod, volume, &claim)?;
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let found = volumes
        .get(&volume_name)
        .await
        .map_err(|error| ClaimError::FetchVolume(volume_name.clone(), api_words(&error)))?;
    is_for(&found, &claim)?;
    let one_pod = found.spec.as_ref().is_some_and(|spec| {
        let modes = spec.access_modes.as_deref().unwrap_or_default();
        modes.iter().any(|mode| mode == "ReadWriteOncePod")
    });
    if one_pod && !context.hold_volume(&volume_name, spec::uid(pod)) {
        return Err(ClaimError::InUse);
    }
    let held = super::host_path_volumes::hold(context, &found).await;
    held.map_err(ClaimError::HostPath)?;
    Ok(Arc::new(found))
}

async fn claim(
    client: &Client,
    pod: &Pod,
    name: &str,
) -> Result<PersistentVolumeClaim, ClaimError> {
    let namespace = spec::namespace(pod);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let found = claims.get(name).await;
    found.map_err(|error| ClaimError::Fetch(format!("{namespace}/{name}"), api_words(&error)))
}

/// The name of the claim's volume. A pod that has run here goes on with a claim that is being deleted: it is
/// what keeps it.
fn bound(pod: &Pod, volume: &Volume, claim: &PersistentVolumeClaim) -> Result<String, ClaimError> {
    let metadata = &claim.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let full = format!("{}/{name}", spec::namespace(pod));
    if metadata.deletion_timestamp.is_some() && !has_run(pod) {
        return Err(ClaimError::Deleted(full));
    }
    if volume.ephemeral.is_some() {
        let mut owners = metadata.owner_references.iter().flatten();
        if !owners.any(|owner| owner.controller == Some(true) && owner.uid == spec::uid(pod)) {
            let pod = format!("{}/{}", spec::namespace(pod), spec::name(pod));
            return Err(ClaimError::NotOwner(full, pod));
        }
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let volume = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref());
    match (phase, volume.unwrap_or_default()) {
        (Some("Bound"), volume) if !volume.is_empty() => Ok(volume.to_owned()),
        _ => Err(ClaimError::Unbound(full)),
    }
}

fn has_run(pod: &Pod) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let all = [&status.init_container_statuses, &status.container_statuses];
    let mut all = all.into_iter().flat_map(|list| list.iter().flatten());
    all.any(|status| {
        status
            .container_id
            .as_deref()
            .is_some_and(|id| !id.is_empty())
    })
}

fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), ClaimError> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let own = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let own = own.ok_or_else(|| ClaimError::Unclaimed(name.clone()))?;
    let (own, claim) = (
        own.uid.clone().unwrap_or_default(),
        claim.metadata.uid.clone(),
    );
    match claim.unwrap_or_default() {
        claim if claim == own => Ok(()),
        claim => Err(ClaimError::Others(name, own, claim)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "p"}, "status": status,
        }))
        .unwrap()
    }

    fn volume(source: Value) -> Volume {
        let mut volume = source;
        volume["name"] = "data".into();
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn which_claim_a_volume_is_of() {
        for (source, claim) in [
            (json!({"emptyDir": {}}), None),
            (
                json!({"persistentVolumeClaim": {"claimName": "c"}}),
                Some(("c".to_owned(), false)),
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}),
                Some(("c".to_owned(), true)),
            ),
            (
                json!({"ephemeral": {}}),
                Some(("web-data".to_owned(), false)),
            ),
        ] {
            assert_eq!(
                wanted(&pod(json!({})), &volume(source.clone())),
                claim,
                "{source}"
            );
        }
    }

    #[test]
    fn a_claim_is_used_when_it_is_bound_and_the_pods() {
        let named = || volume(json!({"persistentVolumeClaim": {"claimName": "c"}}));
        let made = || volume(json!({"ephemeral": {}}));
        let running = json!({"containerStatuses": [{
            "name": "a", "containerID": "vetch://1", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        }]});
        let claim = |metadata: Value, phase: &str, volume: &str| -> PersistentVolumeClaim {
            let mut claim = json!({"metadata": metadata, "spec": {"volumeName": volume}, "status": {"phase": phase}});
            claim["metadata"]["name"] = "c".into();
            serde_json::from_value(claim).unwrap()
        };
        let going = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        let owned = |uid: &str| json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": uid, "controller": true}]});
        let unbound = "error processing PVC shop/c: PVC is not bound";
        for (pod, volume, claim, wanted) in [
            (
                pod(json!({})),
                named(),
                claim(json!({}), "Bound", "v"),
                Ok("v"),
            ),
            (
                pod(json!({})),
                named(),
                claim(json!({}), "Pending", ""),
                Err(unbound),
            ),
            (
                pod(json!({})),
                named(),
                claim(json!({}), "Lost", "v"),
                Err(unbound),
            ),
            (
                pod(json!({})),
                named(),
                claim(going.clone(), "Bound", "v"),
                Err("error processing PVC shop/c: PVC is being deleted"),
            ),
            (pod(running), named(), claim(going, "Bound", "v"), Ok("v")),
            (
                pod(json!({})),
                made(),
                claim(owned("p"), "Bound", "v"),
                Ok("v"),
            ),
            (
                pod(json!({})),
                made(),
                claim(owned("q"), "Bound", "v"),
                Err(
                    "error processing PVC shop/c: PVC shop/c was not created for pod shop/web (pod is not owner)",
                ),
            ),
        ] {
            let got = bound(&pod, &volume, &claim).map_err(|error| error.to_string());
            assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned));
        }
    }

    #[test]
    fn a_volume_is_its_claims_by_uid() {
        let volume = |claim_ref: Value| -> PersistentVolume {
            serde_json::from_value(
                json!({"metadata": {"name": "v"}, "spec": {"claimRef": claim_ref}}),
            )
            .unwrap()
        };
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "c", "uid": "u"}})).unwrap();
        assert_eq!(is_for(&volume(json!({"uid": "u"})), &claim), Ok(()));
        assert_eq!(
            is_for(&volume(Value::Null), &claim),
            Err(ClaimError::Unclaimed("v".into()))
        );
        assert!(matches!(
            is_for(&volume(json!({"uid": "w"})), &claim),
            Err(ClaimError::Others(..))
        ));
    }
}

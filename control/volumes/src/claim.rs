//! What is read of a claim.

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim as Claim, PersistentVolumeClaimSpec, Pod, Volume,
};
use vetch_api::quantity::Quantity;

use crate::annotations::{BETA_STORAGE_CLASS, BIND_COMPLETED, SELECTED_NODE};

pub fn spec(claim: &Claim) -> Option<&PersistentVolumeClaimSpec> {
    claim.spec.as_ref()
}

pub fn annotation<'a>(claim: &'a Claim, key: &str) -> Option<&'a str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// None: it names no class, not even that of none.
pub fn class(claim: &Claim) -> Option<&str> {
    annotation(claim, BETA_STORAGE_CLASS).or_else(|| spec(claim)?.storage_class_name.as_deref())
}

/// The volume that it is, or wants to be, bound to; empty where it takes any.
pub fn volume_name(claim: &Claim) -> &str {
    spec(claim)
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default()
}

pub fn request(claim: &Claim) -> Option<Quantity> {
    let requests = spec(claim)?.resources.as_ref()?.requests.as_ref()?;
    Quantity::parse(&requests.get("storage")?.0).ok()
}

pub fn access_modes(claim: &Claim) -> &[String] {
    spec(claim)
        .and_then(|spec| spec.access_modes.as_deref())
        .unwrap_or_default()
}

pub fn mode(claim: &Claim) -> &str {
    spec(claim)
        .and_then(|spec| spec.volume_mode.as_deref())
        .unwrap_or("Filesystem")
}

pub fn phase(claim: &Claim) -> &str {
    let status = claim.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub fn is_for_one_pod(claim: &Claim) -> bool {
    access_modes(claim)
        .iter()
        .any(|mode| mode == "ReadWriteOncePod")
}

/// Both sides have said so.
pub fn is_bound(claim: &Claim) -> bool {
    !volume_name(claim).is_empty() && annotation(claim, BIND_COMPLETED).is_some()
}

pub fn selected_node(claim: &Claim) -> Option<&str> {
    annotation(claim, SELECTED_NODE)
}

/// The claim that a pod's volume is of, if it is of one.
pub fn name_of(pod: &Pod, volume: &Volume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(made_for(pod, &volume.name)),
        (None, None) => None,
    }
}

/// The name of the claim that is made for an ephemeral volume of a pod.
pub fn made_for(pod: &Pod, volume: &str) -> String {
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    format!("{pod}-{volume}")
}

/// Whether the claim was made for the pod, and is not merely called so.
pub fn is_of_pod(claim: &Claim, pod: &Pod) -> bool {
    let owners = claim.metadata.owner_references.as_deref();
    let mut owners = owners.unwrap_or_default().iter();
    claim.metadata.namespace == pod.metadata.namespace
        && owners.any(|owner| {
            owner.controller == Some(true) && Some(&owner.uid) == pod.metadata.uid.as_ref()
        })
}

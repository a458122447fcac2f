//! What is read of a volume.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume as Volume, PersistentVolumeClaim as Claim,
    PersistentVolumeSpec,
};
use vetch_api::quantity::Quantity;

use crate::annotations::BETA_STORAGE_CLASS;

pub fn spec(volume: &Volume) -> Option<&PersistentVolumeSpec> {
    volume.spec.as_ref()
}

pub fn name(volume: &Volume) -> &str {
    volume.metadata.name.as_deref().unwrap_or_default()
}

pub fn annotation<'a>(volume: &'a Volume, key: &str) -> Option<&'a str> {
    let annotations = volume.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// Empty where it is of no class.
pub fn class(volume: &Volume) -> &str {
    annotation(volume, BETA_STORAGE_CLASS)
        .or_else(|| spec(volume)?.storage_class_name.as_deref())
        .unwrap_or_default()
}

pub fn capacity(volume: &Volume) -> Option<Quantity> {
    let capacity = spec(volume)?.capacity.as_ref()?;
    Quantity::parse(&capacity.get("storage")?.0).ok()
}

pub fn access_modes(volume: &Volume) -> &[String] {
    spec(volume)
        .and_then(|spec| spec.access_modes.as_deref())
        .unwrap_or_default()
}

pub fn mode(volume: &Volume) -> &str {
    spec(volume)
        .and_then(|spec| spec.volume_mode.as_deref())
        .unwrap_or("Filesystem")
}

pub fn phase(volume: &Volume) -> &str {
    let status = volume.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub fn reclaim_policy(volume: &Volume) -> &str {
    spec(volume)
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("Retain")
}

pub fn claim_ref(volume: &Volume) -> Option<&ObjectReference> {
    spec(volume)?.claim_ref.as_ref()
}

/// It is kept for this claim: by name, and by uid where that is known.
pub fn is_for(volume: &Volume, claim: &Claim) -> bool {
    claim_ref(volume).is_some_and(|own| {
        let uid = own.uid.as_deref().unwrap_or_default();
        own.name == claim.metadata.name
            && own.namespace == claim.metadata.namespace
            && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
    })
}

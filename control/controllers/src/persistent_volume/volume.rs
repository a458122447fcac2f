//! What is to be done with a volume.

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use vetch_volumes::annotations::{NODE, PROVISIONED_BY};
use vetch_volumes::class::HOST_PATH;
use vetch_volumes::{claim, volume};

use crate::events::Note;
use crate::key::{is_deleted, name_of, namespace_of};

/// A node has, or may have, the directory.
pub const FINALIZER: &str = "vetch.dev/host-path";

#[derive(Debug, PartialEq)]
pub enum VolumeStep {
    Nothing,
    Phase(&'static str),
    /// It and its claim do not fit: told, left as it is.
    Refuse(Note),
    Fail(Note),
    /// Its claim has another volume: it is free again.
    Unbind,
    Delete,
}

/// `claim`: the one that it is kept for, by its uid, if that is there.
pub fn decide(own: &Volume, claim: Option<&Claim>) -> VolumeStep {
    let Some(wanted) = volume::claim_ref(own) else {
        return phase(own, "Available");
    };
    if wanted.uid.as_deref().unwrap_or_default().is_empty() {
        return phase(own, "Available");
    }
    let Some(claim) = claim else {
        return released(own);
    };
    match claim::volume_name(claim) {
        // The claim is on its way here.
        "" if volume::mode(own) == claim::mode(claim) => VolumeStep::Nothing,
        "" => VolumeStep::Refuse(Note::warning(
            "VolumeMismatch",
            format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{}/{}\" due to incompatible volumeMode.",
                namespace_of(claim),
                name_of(claim)
            ),
        )),
        name if name == volume::name(own) => phase(own, "Bound"),
        // Made for the claim, which took another meanwhile: nobody else waits for it.
        _ if volume::annotation(own, PROVISIONED_BY).is_some()
            && volume::reclaim_policy(own) == "Delete" =>
        {
            released(own)
        }
        _ => VolumeStep::Unbind,
    }
}

fn phase(own: &Volume, wanted: &'static str) -> VolumeStep {
    match volume::phase(own) == wanted {
        true => VolumeStep::Nothing,
        false => VolumeStep::Phase(wanted),
    }
}

/// Its claim is gone.
fn released(own: &Volume) -> VolumeStep {
    let maker = volume::annotation(own, PROVISIONED_BY);
    match (volume::reclaim_policy(own), maker) {
        _ if is_deleted(own) => phase(own, "Released"),
        ("Recycle", _) => VolumeStep::Fail(Note::warning(
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".into(),
        )),
        ("Delete", Some(HOST_PATH)) => VolumeStep::Delete,
        // What made it deletes it.
        ("Delete", Some(maker)) if !maker.starts_with("kubernetes.io/") => phase(own, "Released"),
        ("Delete", _) => VolumeStep::Fail(Note::warning(
            "VolumeFailedDelete",
            format!(
                "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                volume::name(own)
            ),
        )),
        // A volume that failed once stays so until people look at it.
        _ if volume::phase(own) == "Failed" => VolumeStep::Nothing,
        _ => phase(own, "Released"),
    }
}

/// Whether it waits for a node that is no more.
pub fn is_orphan(own: &Volume, has_node: impl Fn(&str) -> bool) -> bool {
    let held = own
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|own| own == FINALIZER);
    let node = volume::annotation(own, NODE).unwrap_or_default();
    is_deleted(own) && held && !has_node(node)
}

#[cfg(test)]
mod tests;

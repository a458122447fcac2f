//! What is to be done with a claim.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::StorageClass;
use vetch_volumes::annotations::{BIND_COMPLETED, BOUND_BY_CONTROLLER};
use vetch_volumes::{Wanted, claim, class, find, mismatch, volume};

use crate::events::Note;
use crate::key::is_deleted;

/// What a decision knows beside the claim.
pub struct Known<'a> {
    pub volumes: &'a [Arc<Volume>],
    pub classes: &'a [Arc<StorageClass>],
    /// Names of pods that use the claim and have no node.
    pub waiting: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub enum ClaimStep {
    /// Both sides name each other and say that they are bound, as far as they do not yet.
    Bind(Arc<Volume>),
    /// It waits; why, where that is to be told.
    Pending(Option<Note>),
    Lost(Note),
    /// It named no class and there is a default one now.
    Class(String),
    Provision(Arc<StorageClass>),
}

pub fn decide(claim: &Claim, known: &Known<'_>) -> ClaimStep {
    match claim::annotation(claim, BIND_COMPLETED) {
        Some(_) => bound_once(claim, known),
        None if is_deleted(claim) => ClaimStep::Pending(None),
        None => match claim::volume_name(claim) {
            "" => choose(claim, known),
            name => named(claim, name, known),
        },
    }
}

/// It had a volume: it has it still, or has lost it.
fn bound_once(claim: &Claim, known: &Known<'_>) -> ClaimStep {
    let lost = |reason, message: &str| ClaimStep::Lost(Note::warning(reason, message.into()));
    let name = claim::volume_name(claim);
    if name.is_empty() {
        return lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        );
    }
    let Some(found) = by_name(known, name) else {
        return lost(
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        );
    };
    let own = volume::claim_ref(found).and_then(|own| own.uid.as_deref());
    let others =
        own.is_some_and(|uid| !uid.is_empty() && Some(uid) != claim.metadata.uid.as_deref());
    match others {
        false => ClaimStep::Bind(found.clone()),
        true => lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    }
}

fn by_name<'a>(known: &Known<'a>, name: &str) -> Option<&'a Arc<Volume>> {
    known.volumes.iter().find(|own| volume::name(own) == name)
}

/// Any volume that does.
fn choose(claim: &Claim, known: &Known<'_>) -> ClaimStep {
    let class_name = claim::class(claim);
    let own_class = known
        .classes
        .iter()
        .find(|class| class.metadata.name.as_deref() == class_name);
    let delayed = own_class.is_some_and(|own| class::is_delayed(own));
    if let Some(found) = find(claim, known.volumes, Wanted::Anywhere { delayed }) {
        return ClaimStep::Bind(found.clone());
    }
    let default = class::default_of(known.classes.iter().map(AsRef::as_ref));
    if let (None, Some(default)) = (class_name, default) {
        return ClaimStep::Class(default.to_owned());
    }
    if delayed && claim::selected_node(claim).is_none() {
        return ClaimStep::Pending(Some(match known.waiting.as_slice() {
            [] => Note::normal(
                "WaitForFirstConsumer",
                "waiting for first consumer to be created before binding".into(),
            ),
            [pod] => Note::normal(
                "WaitForPodScheduled",
                format!("waiting for pod {pod} to be scheduled"),
            ),
            pods => Note::normal(
                "WaitForPodScheduled",
                format!("waiting for pods {} to be scheduled", pods.join(",")),
            ),
        }));
    }
    match (class_name.unwrap_or_default(), own_class) {
        ("", _) => ClaimStep::Pending(Some(Note::normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set".into(),
        ))),
        (_, Some(class)) => ClaimStep::Provision(class.clone()),
        (name, None) => ClaimStep::Pending(Some(Note::warning(
            "ProvisioningFailed",
            format!("storageclass.storage.k8s.io {name:?} not found"),
        ))),
    }
}

/// The one that it names, and no other.
fn named(claim: &Claim, name: &str, known: &Known<'_>) -> ClaimStep {
    let Some(found) = by_name(known, name) else {
        return ClaimStep::Pending(None);
    };
    if volume::claim_ref(found).is_none() {
        return match mismatch(found, claim) {
            None => ClaimStep::Bind(found.clone()),
            Some(why) => ClaimStep::Pending(Some(Note::warning(
                "VolumeMismatch",
                format!("Cannot bind to requested volume {name:?}: {}", why.words()),
            ))),
        };
    }
    if volume::is_for(found, claim) {
        return ClaimStep::Bind(found.clone());
    }
    // Chosen by this controller, it will be let go of; named by people, it is waited for.
    let note = claim::annotation(claim, BOUND_BY_CONTROLLER)
        .is_none()
        .then(|| {
            Note::warning(
                "FailedBinding",
                format!("volume {name:?} already bound to a different claim."),
            )
        });
    ClaimStep::Pending(note)
}

#[cfg(test)]
mod tests;

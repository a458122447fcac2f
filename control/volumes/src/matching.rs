//! Which volume does for a claim.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use kube::core::{Selector, SelectorExt as _};

use crate::affinity::reaches;
use crate::volume::is_for;
use crate::{claim, volume};

/// Who asks, and for where.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// The controller, wherever the volume is. A claim that waits for its pod gets only what is kept for it.
    Anywhere { delayed: bool },
    /// The scheduler, for a node with these labels; `taken` are the names of volumes it has given away.
    On {
        labels: &'a BTreeMap<String, String>,
        taken: &'a BTreeSet<String>,
    },
}

/// The volume that is kept for the claim, or else of those that do the one with the fewest access modes
/// beyond what is asked for (for the controller), and of these the smallest, the first by name.
pub fn find<'a>(
    claim: &Claim,
    volumes: impl IntoIterator<Item = &'a Arc<Volume>>,
    wanted: Wanted<'_>,
) -> Option<&'a Arc<Volume>> {
    let selector = claim::spec(claim).and_then(|spec| spec.selector.clone());
    let selector = selector.map(Selector::try_from).transpose().ok()?;
    let mut best: Option<&Arc<Volume>> = None;
    for candidate in volumes {
        let kept = is_for(candidate, claim);
        let here = match wanted {
            Wanted::Anywhere { .. } => true,
            Wanted::On { taken, .. } if !kept && taken.contains(volume::name(candidate)) => {
                continue;
            }
            Wanted::On { labels, .. } => reaches(candidate, labels),
        };
        if candidate.metadata.deletion_timestamp.is_some()
            || (volume::claim_ref(candidate).is_some() && !kept)
            || !is_large_enough(candidate, claim)
            || volume::mode(candidate) != claim::mode(claim)
            || attributes_class(candidate) != attributes_of(claim)
        {
            continue;
        }
        if kept {
            return here.then_some(candidate);
        }
        let delayed = matches!(wanted, Wanted::Anywhere { delayed: true });
        let labelled = selector.as_ref().is_none_or(|selector| {
            selector.matches(
                candidate
                    .metadata
                    .labels
                    .as_ref()
                    .unwrap_or(&BTreeMap::new()),
            )
        });
        if delayed
            || !here
            || !labelled
            || volume::phase(candidate) != "Available"
            || volume::class(candidate) != claim::class(claim).unwrap_or_default()
            || !has_modes(candidate, claim)
        {
            continue;
        }
        if best.is_none_or(|best| is_better(candidate, best, wanted)) {
            best = Some(candidate);
        }
    }
    best
}

fn is_better(one: &Volume, other: &Volume, wanted: Wanted<'_>) -> bool {
    let modes = |volume: &Volume| volume::access_modes(volume).len();
    let by_modes = match wanted {
        Wanted::Anywhere { .. } => modes(one).cmp(&modes(other)),
        Wanted::On { .. } => std::cmp::Ordering::Equal,
    };
    let by_size = volume::capacity(one)
        .partial_cmp(&volume::capacity(other))
        .unwrap_or(std::cmp::Ordering::Equal);
    let by_name = volume::name(one).cmp(volume::name(other));
    by_modes.then(by_size).then(by_name).is_lt()
}

fn is_large_enough(volume: &Volume, claim: &Claim) -> bool {
    match (volume::capacity(volume), claim::request(claim)) {
        (Some(has), Some(wants)) => has >= wants,
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn has_modes(volume: &Volume, claim: &Claim) -> bool {
    let has = volume::access_modes(volume);
    claim::access_modes(claim)
        .iter()
        .all(|mode| has.contains(mode))
}

fn attributes_class(volume: &Volume) -> &str {
    let class = volume::spec(volume).and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or_default()
}

fn attributes_of(claim: &Claim) -> &str {
    let class = claim::spec(claim).and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or_default()
}

/// Why a volume that a claim names does not do, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    TooSmall,
    Class,
    Attributes,
    Mode,
    AccessModes,
}

impl Mismatch {
    pub fn words(self) -> &'static str {
        match self {
            Mismatch::TooSmall => "requested PV is too small",
            Mismatch::Class => "storageClassName does not match",
            Mismatch::Attributes => "volumeAttributesClassName does not match",
            Mismatch::Mode => "incompatible volumeMode",
            Mismatch::AccessModes => "incompatible accessMode",
        }
    }
}

pub fn mismatch(volume: &Volume, claim: &Claim) -> Option<Mismatch> {
    if !is_large_enough(volume, claim) {
        return Some(Mismatch::TooSmall);
    }
    if volume::class(volume) != claim::class(claim).unwrap_or_default() {
        return Some(Mismatch::Class);
    }
    if attributes_class(volume) != attributes_of(claim) {
        return Some(Mismatch::Attributes);
    }
    if volume::mode(volume) != claim::mode(claim) {
        return Some(Mismatch::Mode);
    }
    (!has_modes(volume, claim)).then_some(Mismatch::AccessModes)
}

#[cfg(test)]
mod tests;

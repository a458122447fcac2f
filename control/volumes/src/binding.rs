//! What a volume says once it is a claim's.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume as Volume, PersistentVolumeClaim as Claim,
};

use crate::annotations::BOUND_BY_CONTROLLER;
use crate::volume::{claim_ref, is_for};

/// The volume, kept for the claim; None where it says so already.
pub fn bound_to(volume: &Volume, claim: &Claim) -> Option<Volume> {
    let chosen = !is_for(volume, claim);
    let named = claim_ref(volume)
        .and_then(|own| own.uid.as_deref())
        .is_some_and(|uid| !uid.is_empty());
    if !chosen && named {
        return None;
    }
    let mut bound = volume.clone();
    bound.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    });
    if chosen {
        let annotations = bound.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
    }
    Some(bound)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(claim_ref: Value) -> Volume {
        let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": claim_ref}});
        serde_json::from_value(volume).expect("a volume")
    }

    #[test]
    fn a_volume_says_whose_it_is_and_who_chose() {
        let claim: Claim = serde_json::from_value(
            json!({"metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7"}}),
        )
        .expect("a claim");
        let kept = |uid: Value| json!({"name": "c", "namespace": "n", "uid": uid});
        for (before, chosen) in [
            (Value::Null, Some(true)),
            (kept(Value::Null), Some(false)),
            (kept("u".into()), None),
        ] {
            let bound = bound_to(&volume(before.clone()), &claim);
            let by_controller = bound.as_ref().map(|own| own.metadata.annotations.is_some());
            assert_eq!(by_controller, chosen, "{before}");
            if let Some(bound) = bound {
                let own = claim_ref(&bound).expect("a claim");
                assert_eq!(
                    (own.uid.as_deref(), own.kind.as_deref()),
                    (Some("u"), Some("PersistentVolumeClaim"))
                );
                assert_eq!(bound_to(&bound, &claim), None, "said once");
            }
        }
    }
}

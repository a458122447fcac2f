//! A directory that a node made for a claim is the node's to unmake: it says with a finalizer that it has it.

use serde_json::Value;
use vetch_server::admission::{Attributes, Operation};

use super::super::texts;
use crate::access::is_made_on;

/// While it stands, the directory may.
pub(super) const FINALIZER: &str = "vetch.dev/host-path";

pub(super) fn decide(
    attributes: &Attributes<'_>,
    node: &str,
    volume: &Value,
) -> Result<(), String> {
    let old = match (attributes.operation, attributes.old) {
        (Operation::Update, Some(old)) => old,
        // The last finalizer goes, and the volume with it.
        (Operation::Delete, Some(old)) if !old["metadata"]["deletionTimestamp"].is_null() => old,
        _ => return Err(format!("node {node:?} can not create or delete volumes")),
    };
    if !is_made_on(old, node) {
        return Err(format!(
            "node {node:?} can only change volumes that were made on it"
        ));
    }
    match attributes.subresource.is_empty() && changes_finalizer_alone(volume, old) {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} can only set and take off the finalizer {FINALIZER:?} of a volume"
        )),
    }
}

fn changes_finalizer_alone(new: &Value, old: &Value) -> bool {
    let others = |volume: &Value| {
        let mut finalizers = texts(volume, "/metadata/finalizers");
        finalizers.retain(|own| own != FINALIZER);
        finalizers
    };
    let rest = |volume: &Value| {
        let mut volume = volume.clone();
        if let Some(metadata) = volume["metadata"].as_object_mut() {
            for key in ["finalizers", "resourceVersion", "managedFields"] {
                metadata.remove(key);
            }
        }
        volume
    };
    others(new) == others(old) && rest(new) == rest(old)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_but_the_one_finalizer_changes() {
        let volume = |finalizers: Value, path: &str| json!({"metadata": {"name": "v", "finalizers": finalizers}, "spec": {"hostPath": {"path": path}}});
        let old = volume(json!(["a/b"]), "/d");
        for (new, allowed) in [
            (volume(json!(["a/b", FINALIZER]), "/d"), true),
            (volume(json!([FINALIZER, "a/b"]), "/d"), true),
            (volume(json!([FINALIZER]), "/d"), false),
            (volume(json!(["a/b", "c/d"]), "/d"), false),
            (volume(json!(["a/b", FINALIZER]), "/etc"), false),
        ] {
            assert_eq!(changes_finalizer_alone(&new, &old), allowed, "{new}");
            assert_eq!(changes_finalizer_alone(&old, &new), allowed, "{new}");
        }
    }
}

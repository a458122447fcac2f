//! What becomes of a mirror, and what it looks like. Pure.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{HASH, MIRROR, annotation};
use crate::pods::spec;

/// The static pod of a mirror's name, as far as the node has one.
#[derive(Clone, Copy, Debug)]
pub enum Original<'a> {
    Running(&'a Pod),
    /// Its mirror shows how it ends.
    Ending,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Create,
    Delete,
}

pub fn step(original: Original<'_>, mirror: Option<&Pod>) -> Step {
    match (original, mirror) {
        (Original::Running(_), None) => Step::Create,
        (Original::Running(pod), Some(mirror))
            if shows(mirror, pod) && !spec::is_deleted(mirror) =>
        {
            Step::Nothing
        }
        (Original::Running(_) | Original::Gone, Some(_)) => Step::Delete,
        (Original::Ending, _) | (Original::Gone, None) => Step::Nothing,
    }
}

/// Whether it is this very pod's, and not that of another version of the file.
pub fn shows(mirror: &Pod, pod: &Pod) -> bool {
    let of = annotation(mirror, MIRROR);
    of.is_some() && of == annotation(pod, HASH)
}

/// What is created: `None` for a node that is on its way out, which takes its pods with it.
pub fn of(pod: &Pod, node: &Node) -> Option<Pod> {
    if node.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let mut mirror = pod.clone();
    let metadata = &mut mirror.metadata;
    // The server gives it one of its own.
    metadata.uid = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(MIRROR.to_owned(), hash);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    Some(mirror)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(metadata: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": []}})).unwrap()
    }

    #[test]
    fn what_becomes_of_a_mirror() {
        let own = pod(json!({"annotations": {HASH: "h1"}}));
        let mirror = |hash: &str| pod(json!({"annotations": {HASH: hash, MIRROR: hash}}));
        let deleted = pod(
            json!({"annotations": {MIRROR: "h1"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
        );
        let (same, other) = (mirror("h1"), mirror("h2"));
        let ours = pod(json!({"annotations": {HASH: "h1"}}));
        for (what, original, seen, want) in [
            ("no mirror yet", Original::Running(&own), None, Step::Create),
            (
                "it is there",
                Original::Running(&own),
                Some(&same),
                Step::Nothing,
            ),
            (
                "an earlier file's",
                Original::Running(&own),
                Some(&other),
                Step::Delete,
            ),
            (
                "somebody deletes it",
                Original::Running(&own),
                Some(&deleted),
                Step::Delete,
            ),
            (
                "no mirror at all",
                Original::Running(&own),
                Some(&ours),
                Step::Delete,
            ),
            (
                "on its way out",
                Original::Ending,
                Some(&same),
                Step::Nothing,
            ),
            ("deleted meanwhile", Original::Ending, None, Step::Nothing),
            ("of no file", Original::Gone, Some(&same), Step::Delete),
            ("nothing at all", Original::Gone, None, Step::Nothing),
        ] {
            assert_eq!(step(original, seen), want, "{what}");
        }
    }

    #[test]
    fn a_mirror_is_the_nodes() {
        let own = pod(
            json!({"name": "web-n", "namespace": "kube-system", "uid": "h1",
            "labels": {"a": "b"}, "annotations": {HASH: "h1", "own": "x"}}),
        );
        let node = |metadata: Value| serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let mirror = of(&own, &node(json!({"name": "n", "uid": "u"}))).unwrap();
        let got = serde_json::to_value(&mirror).unwrap();
        assert_eq!(
            got["metadata"],
            json!({
                "name": "web-n", "namespace": "kube-system", "labels": {"a": "b"},
                "annotations": {HASH: "h1", MIRROR: "h1", "own": "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}],
            })
        );
        assert!(shows(&mirror, &own));
        let going =
            node(json!({"name": "n", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        assert_eq!(of(&own, &going), None);
    }
}

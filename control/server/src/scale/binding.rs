//! What a Binding asks, and what it makes of its pod. Pure.

use serde_json::Value;
use vetch_api::field::Path;
use vetch_api::meta::validate_annotations;
use vetch_api::names;
use vetch_api::resource::FieldError;

/// Why a pod is not bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not the pod that was meant.
    Precondition(String),
    /// It is none to be bound.
    Pod(String),
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let found = object.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}

/// ValidatePodBinding, and what no pod may have: Kubernetes takes any annotations and any name of a node here.
pub(super) fn validate(binding: &Value) -> Vec<FieldError> {
    let (target, metadata) = (Path::new("target"), Path::new("metadata"));
    let mut errors = Vec::new();
    let kind = text(binding, "/target/kind");
    if !matches!(kind, "" | "Node") {
        let known = ["Node", "<empty>"];
        errors.push(target.child("kind").not_supported(kind, &known));
    }
    let path = target.child("name");
    match text(binding, "/target/name") {
        "" => errors.push(path.required("")),
        node => {
            let wrong = names::subdomain(node);
            errors.extend(wrong.iter().map(|why| path.invalid(node, why)));
        }
    }
    let annotations = binding.pointer("/metadata/annotations");
    let path = metadata.child("annotations");
    errors.extend(validate_annotations(annotations, &path));
    errors
}

/// The pod on its node.
pub(super) fn bound(pod: &Value, binding: &Value) -> Result<Value, Refused> {
    for (field, words) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let pointer = format!("/metadata/{field}");
        let (wanted, own) = (text(binding, &pointer), text(pod, &pointer));
        if !wanted.is_empty() && wanted != own {
            return Err(Refused::Precondition(format!(
                "Precondition failed: {words} in precondition: {wanted}, {words} in object meta: {own}"
            )));
        }
    }
    let name = text(pod, "/metadata/name");
    let refused = |why: String| Err(Refused::Pod(format!("pod {name} {why}")));
    if pod
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|at| !at.is_null())
    {
        return refused("is being deleted, cannot be assigned to a host".to_owned());
    }
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        return refused(format!("is already assigned to node {node:?}"));
    }
    let gates = pod
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return refused("has non-empty .spec.schedulingGates".to_owned());
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = text(binding, "/target/name").into();
    let annotations = binding
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bindings_are_validated() {
        let binding = |kind: &str, name: &str, annotations: Value| json!({"metadata": {"name": "p", "annotations": annotations}, "target": {"kind": kind, "name": name}});
        for (binding, told) in [
            (binding("Node", "n", json!({"a/b": "1"})), ""),
            (binding("", "node-1.example.com", json!({})), ""),
            (json!({}), "target.name: Required value"),
            (
                binding("Node", "", json!({})),
                "target.name: Required value",
            ),
            (
                binding("Foo", "n", json!({})),
                "target.kind: Unsupported value: \"Foo\": supported values: \"Node\", \"<empty>\"",
            ),
            (
                binding("Node", "x y", json!({})),
                "target.name: Invalid value: \"x y\": a lowercase RFC 1123 subdomain must consist of",
            ),
            (
                binding("Node", "n", json!({"a b": "1"})),
                "metadata.annotations: Invalid value: \"a b\": ",
            ),
        ] {
            let errors = validate(&binding);
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            assert!(first.starts_with(told), "{binding}: {first}");
            assert_eq!(errors.len(), usize::from(!told.is_empty()), "{binding}");
        }
    }

    #[test]
    fn a_pod_is_bound_that_is_meant_and_may_be() {
        let pod = |more: Value| {
            let mut pod =
                json!({"metadata": {"name": "p", "uid": "u", "resourceVersion": "7"}, "spec": {}});
            json_patch::merge(&mut pod, &more);
            pod
        };
        let binding = |metadata: Value| json!({"metadata": metadata, "target": {"name": "n"}});
        let on = |annotations: Value| {
            pod(json!({"metadata": {"annotations": annotations}, "spec": {"nodeName": "n"}}))
        };
        let precondition = |told: &str| Err(Refused::Precondition(told.to_owned()));
        let refused = |told: &str| Err(Refused::Pod(told.to_owned()));
        let gates = json!({"spec": {"schedulingGates": [{"name": "g"}]}});
        let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        for (pod, metadata, wanted) in [
            (pod(json!({})), json!({}), Ok(on(Value::Null))),
            (
                pod(json!({"spec": {"schedulingGates": []}})),
                json!({"uid": "u", "resourceVersion": "7"}),
                Ok(pod(
                    json!({"spec": {"nodeName": "n", "schedulingGates": []}}),
                )),
            ),
            (
                pod(json!({"metadata": {"annotations": {"a": "1", "b": "2"}}})),
                json!({"annotations": {"b": "3", "c": "4"}}),
                Ok(on(json!({"a": "1", "b": "3", "c": "4"}))),
            ),
            (
                pod(json!({})),
                json!({"uid": "v"}),
                precondition("Precondition failed: UID in precondition: v, UID in object meta: u"),
            ),
            (
                pod(json!({})),
                json!({"resourceVersion": "6"}),
                precondition(
                    "Precondition failed: ResourceVersion in precondition: 6, ResourceVersion in object meta: 7",
                ),
            ),
            (
                pod(gates),
                json!({}),
                refused("pod p has non-empty .spec.schedulingGates"),
            ),
            (
                pod(json!({"spec": {"nodeName": "m"}})),
                json!({}),
                refused("pod p is already assigned to node \"m\""),
            ),
            (
                pod(gone),
                json!({}),
                refused("pod p is being deleted, cannot be assigned to a host"),
            ),
        ] {
            assert_eq!(
                bound(&pod, &binding(metadata.clone())),
                wanted,
                "{pod} {metadata}"
            );
        }
    }
}

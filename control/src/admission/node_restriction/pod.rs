//! A node and pods: the status and the end of its own, and mirrors of its static ones.

use serde_json::Value;
use vetch_server::admission::{Attributes, Operation};

use crate::admission::pods::{MIRROR, is_mirror};
use crate::admission::{list, text};

pub fn decide(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    let bound = |pod: Option<&Value>| pod.is_some_and(|pod| text(pod, "/spec/nodeName") == node);
    match (attributes.subresource, attributes.operation) {
        // A status that completes a deletion ends in the removal of the same pod.
        ("", Operation::Delete) | ("status", Operation::Delete) => match bound(attributes.old) {
            true => Ok(()),
            false => Err(format!(
                "node {node:?} can only delete pods with spec.nodeName set to itself"
            )),
        },
        ("", Operation::Create) => create(node, object),
        ("", Operation::Update) => Err("unexpected operation \"UPDATE\"".into()),
        ("status", _) if !bound(attributes.old) => Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        ("status", _) if labels_differ(object, attributes.old) => Err(format!(
            "node {node:?} cannot update labels through pod status"
        )),
        ("status", _) => Ok(()),
        (other, _) => Err(format!(
            "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
        )),
    }
}

fn labels_differ(new: &Value, old: Option<&Value>) -> bool {
    let labels = |pod: &Value| {
        pod["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    old.is_some_and(|old| labels(new) != labels(old))
}

fn create(node: &str, pod: &Value) -> Result<(), String> {
    if !is_mirror(pod) {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(pod, "/spec/nodeName") != node {
        return Err(format!(
            "node {node:?} can only create pods with spec.nodeName set to itself"
        ));
    }
    owner(node, list(pod, "/metadata/ownerReferences"))?;
    // It may read the secrets of pods it runs, so it must not choose them.
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Err(format!(
            "node {node:?} can not create pods that reference a service account"
        ));
    }
    for (field, what) in [
        ("secret", "secrets"),
        ("configMap", "configmaps"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("projected", "projected volumes"),
    ] {
        if list(pod, "/spec/volumes")
            .iter()
            .any(|volume| !volume[field].is_null())
        {
            return Err(format!(
                "node {node:?} can not create pods that reference {what}"
            ));
        }
    }
    for containers in ["/spec/initContainers", "/spec/containers"] {
        for container in list(pod, containers) {
            refuse_environment(node, container)?;
        }
    }
    if !list(pod, "/spec/imagePullSecrets").is_empty() {
        return Err(format!(
            "node {node:?} can not create pods that reference secrets"
        ));
    }
    Ok(())
}

fn refuse_environment(node: &str, container: &Value) -> Result<(), String> {
    let named = list(container, "/env").iter().map(|env| &env["valueFrom"]);
    for source in named.chain(list(container, "/envFrom")) {
        for (fields, what) in [
            (["secretKeyRef", "secretRef"], "secrets"),
            (["configMapKeyRef", "configMapRef"], "configmaps"),
        ] {
            if fields.iter().any(|field| !source[*field].is_null()) {
                return Err(format!(
                    "node {node:?} can not create pods that reference {what}"
                ));
            }
        }
    }
    Ok(())
}

fn owner(node: &str, owners: &[Value]) -> Result<(), String> {
    let [owner] = owners else {
        let which = match owners.is_empty() {
            true => "an",
            false => "a single",
        };
        return Err(format!(
            "node {node:?} can only create pods with {which} owner reference set to itself"
        ));
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return Err(format!(
            "node {node:?} can only create pods with an owner reference set to itself"
        ));
    }
    if owner["controller"] != true {
        return Err(format!(
            "node {node:?} can only create pods with a controller owner reference set to itself"
        ));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!(
            "node {node:?} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    Ok(())
}

/// The owner is the node that is registered now.
pub fn owner_lives(pod: &Value, node: &str, registered: Option<&Value>) -> Result<(), String> {
    let Some(registered) = registered else {
        return Err(format!("node {node:?} is not registered"));
    };
    let (own, now) = (
        text(pod, "/metadata/ownerReferences/0/uid"),
        text(registered, "/metadata/uid"),
    );
    match own == now {
        true => Ok(()),
        false => Err(format!(
            "node {node:?} UID mismatch: expected {now} got {own}"
        )),
    }
}

//! What a node may do: Kubernetes' node authorizer and its `system:node` and `system:node-proxier` roles, as
//! vetch-node is kubelet and service proxy in one. And what a network plugin's own account may elsewhere, as it is
//! that too: a node enforces NetworkPolicies and those of administrators, and for that reads those and namespaces, and, as
//! soon as there is a policy, pods of the whole cluster.
//!
//! Where the authorizer leaves ownership to the NodeRestriction admission plugin, it is asked for here as well:
//! that a request names the node's own object is known before it is read.

use vetch_identity::User;
use vetch_server::guard::Action;

use super::bootstrap::{CERTIFICATES, REQUESTS};
use super::facts::Facts;
use super::references::{Kind, is_bound_to, is_made_on, refers_to};

const GROUP: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// The node a user is: both name and group must say so.
pub(super) fn name(user: &User) -> Option<&str> {
    user.name
        .strip_prefix(USER_PREFIX)
        .filter(|name| !name.is_empty() && user.is_in(GROUP))
}

pub(super) fn decide(node: &str, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    let verb = action.verb;
    match (action.group, action.resource, action.subresource) {
        ("", "nodes", sub) => own_node(node, sub, action),
        ("", "pods", "") => pods(node, action, facts),
        ("", "pods", "status") => match verb {
            "update" | "patch" => own_pod(node, action, facts),
            _ => no_rule(),
        },
        ("", "secrets", sub) => referenced(node, Kind::Secret, sub, action, facts),
        ("", "configmaps", sub) => referenced(node, Kind::ConfigMap, sub, action, facts),
        ("", "persistentvolumeclaims", "") => match verb {
            "get" if !action.name.is_empty() => related(node, Kind::Claim, action, facts),
            _ => one_by_one(),
        },
        ("", "persistentvolumes", "") => volume(node, action, facts),
        ("", "serviceaccounts", "") if verb == "get" => account(node, action, facts),
        ("", "serviceaccounts", "token") if verb == "create" => account(node, action, facts),
        ("", "services", "") | ("discovery.k8s.io", "endpointslices", "") if reads(verb) => Ok(()),
        ("node.k8s.io", "runtimeclasses", "") | ("storage.k8s.io", "csidrivers", "")
            if reads(verb) =>
        {
            Ok(())
        }
        ("storage.k8s.io", "csinodes", sub) => own_csi_node(node, sub, action),
        // Beyond upstream: nodes enforce policies, and are their own cluster DNS (CoreDNS' role lists namespaces).
        ("networking.k8s.io", "networkpolicies", "") | ("", "namespaces", "") if reads(verb) => {
            Ok(())
        }
        (
            "policy.networking.k8s.io",
            "adminnetworkpolicies" | "baselineadminnetworkpolicies",
            "",
        ) if reads(verb) => Ok(()),
        ("" | "events.k8s.io", "events", "") if matches!(verb, "create" | "update" | "patch") => {
            Ok(())
        }
        ("coordination.k8s.io", "leases", "") => own_lease(node, action),
        // Its next certificate; which ones it may ask for says NodeRestriction.
        (CERTIFICATES, REQUESTS, "") if matches!(verb, "create" | "get" | "list" | "watch") => {
            Ok(())
        }
        // kubeadm:node-autoapprove-certificate-rotation
        (CERTIFICATES, REQUESTS, "selfnodeclient") if verb == "create" => Ok(()),
        // The kubelet's own server asks who its clients are and what they may.
        ("authentication.k8s.io", "tokenreviews", "")
        | ("authorization.k8s.io", "subjectaccessreviews", "")
            if verb == "create" =>
        {
            Ok(())
        }
        _ => no_rule(),
    }
}

fn no_rule() -> Result<(), String> {
    Err(String::new())
}

fn reads(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// All nodes are read: the datapath routes to each one's pods.
fn own_node(node: &str, subresource: &str, action: &Action<'_>) -> Result<(), String> {
    match (action.verb, subresource) {
        (verb, "") if reads(verb) => Ok(()),
        // A create names its object in the body, which NodeRestriction reads.
        ("create", "") => Ok(()),
        ("update" | "patch", "" | "status") if action.name == node => Ok(()),
        (verb @ ("update" | "patch"), "" | "status") => Err(format!(
            "node '{node}' cannot {verb} '{}', only its own Node object",
            action.name
        )),
        _ => no_rule(),
    }
}

/// What they create must be mirrors of their static pods, which NodeRestriction sees to.
fn pods(node: &str, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    match action.verb {
        "list" | "watch" => {
            let pinned = action
                .fields
                .and_then(|fields| fields.pinned("spec.nodeName"));
            // Policies of a node's pods are about labels and addresses of all others. Where there are none, a
            // node reads what it runs and nothing else.
            match pinned == Some(node) || facts.has_policies() {
                true => Ok(()),
                false => {
                    Err("can only list/watch pods with spec.nodeName field selector".to_owned())
                }
            }
        }
        "get" | "delete" => own_pod(node, action, facts),
        "create" => Ok(()),
        _ => no_rule(),
    }
}

/// A pod that is nowhere is no secret: its node must hear 404, not 403, to know that it is gone.
fn own_pod(node: &str, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    match facts.pod(action.namespace, action.name) {
        Some(pod) if !is_bound_to(&pod.value, node) => Err(unrelated(node)),
        _ => Ok(()),
    }
}

fn referenced(
    node: &str,
    kind: Kind,
    subresource: &str,
    action: &Action<'_>,
    facts: &dyn Facts,
) -> Result<(), String> {
    if !reads(action.verb) || !subresource.is_empty() {
        return Err("can only read resources of this type".to_owned());
    }
    if action.namespace.is_empty() || action.name.is_empty() {
        return Err("can only read namespaced object of this type".to_owned());
    }
    related(node, kind, action, facts)
}

fn account(node: &str, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    related(node, Kind::ServiceAccount, action, facts)
}

/// Whether a pod on the node refers to the object the action names.
fn related(node: &str, kind: Kind, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    let found = facts
        .pods(action.namespace)
        .iter()
        .any(|pod| is_bound_to(&pod.value, node) && refers_to(&pod.value, kind, action.name));
    match found {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

fn one_by_one() -> Result<(), String> {
    Err("can only get individual resources of this type".to_owned())
}

/// Volumes of the claims of its pods. One that is nowhere is no secret, and one that was made on the node is
/// the node's to unmake: it says so in the volume's finalizers, which NodeRestriction sees to.
fn volume(node: &str, action: &Action<'_>, facts: &dyn Facts) -> Result<(), String> {
    if !matches!(action.verb, "get" | "patch") || action.name.is_empty() {
        return one_by_one();
    }
    let Some(volume) = facts.volume(action.name) else {
        return Ok(());
    };
    if is_made_on(&volume.value, node) {
        return Ok(());
    }
    if action.verb != "get" {
        return one_by_one();
    }
    let claim = &volume.value["spec"]["claimRef"];
    let text = |field: &str| claim[field].as_str().unwrap_or_default();
    let used = facts.pods(text("namespace")).iter().any(|pod| {
        is_bound_to(&pod.value, node) && refers_to(&pod.value, Kind::Claim, text("name"))
    });
    match used {
        true => Ok(()),
        false => Err(unrelated(node)),
    }
}

fn own_lease(node: &str, action: &Action<'_>) -> Result<(), String> {
    if !matches!(
        action.verb,
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return Err("can only get, create, update, patch, or delete a node lease".to_owned());
    }
    if action.namespace != LEASES {
        return Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    // A create names its object in the body, which NodeRestriction reads.
    if action.verb != "create" && action.name != node {
        return Err(
            "can only access node lease with the same name as the requesting node".to_owned(),
        );
    }
    Ok(())
}

/// The drivers it has, which its kubelet tells.
fn own_csi_node(node: &str, subresource: &str, action: &Action<'_>) -> Result<(), String> {
    if !matches!(
        action.verb,
        "get" | "create" | "update" | "patch" | "delete"
    ) {
        return Err("can only get, create, update, patch, or delete a CSINode".to_owned());
    }
    if !subresource.is_empty() {
        return Err("cannot authorize CSINode subresources".to_owned());
    }
    // A create names its object in the body, which NodeRestriction reads.
    if action.verb != "create" && action.name != node {
        return Err("can only access CSINode with the same name as the requesting node".to_owned());
    }
    Ok(())
}

//! What controllers ask about nodes.

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const NO_SCHEDULE: &str = "NoSchedule";
pub const NO_EXECUTE: &str = "NoExecute";

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    True,
    False,
    Unknown,
    /// Nobody has said anything yet.
    Unsaid,
}

pub fn ready(node: &Node) -> Ready {
    match condition(node, "Ready").map(|condition| condition.status.as_str()) {
        None => Ready::Unsaid,
        Some("True") => Ready::True,
        Some("False") => Ready::False,
        Some(_) => Ready::Unknown,
    }
}

pub fn taints(node: &Node) -> &[Taint] {
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default()
}

pub fn has_taint(node: &Node, key: &str, effect: &str) -> bool {
    taints(node)
        .iter()
        .any(|taint| taint.key == key && taint.effect == effect)
}

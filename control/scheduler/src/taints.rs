//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Effects that keep a pod off a node.
pub const HARD: &[&str] = &["NoSchedule", "NoExecute"];
/// The effect that only makes a node less wanted.
pub const SOFT: &[&str] = &["PreferNoSchedule"];

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    fn given(field: &Option<String>) -> Option<&str> {
        field.as_deref().filter(|text| !text.is_empty())
    }
    if given(&toleration.effect).is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    let key = given(&toleration.key);
    if key.is_some_and(|key| key != taint.key) {
        return false;
    }
    let own = toleration.value.as_deref().unwrap_or_default();
    let value = taint.value.as_deref().unwrap_or_default();
    let numbers = || Some((value.parse::<i64>().ok()?, own.parse::<i64>().ok()?));
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => key.is_some() && own == value,
        Some("Gt") => numbers().is_some_and(|(value, own)| value > own),
        Some("Lt") => numbers().is_some_and(|(value, own)| value < own),
        _ => false,
    }
}

pub fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    let spec = pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref());
    tolerations
        .unwrap_or_default()
        .iter()
        .any(|toleration| tolerates(toleration, taint))
}

/// Those with one of these effects that the pod does not tolerate.
pub fn untolerated<'a>(
    taints: &'a [Taint],
    pod: &'a Pod,
    effects: &'a [&str],
) -> impl Iterator<Item = &'a Taint> {
    taints
        .iter()
        .filter(move |taint| effects.contains(&taint.effect.as_str()) && !tolerated(pod, taint))
}

/// What a cordoned node is as good as tainted with.
pub fn cordon() -> Taint {
    no_schedule(UNSCHEDULABLE)
}

/// The node's taints; a node that has not said it is ready is as good as tainted, before the node
/// lifecycle controller has tainted it.
pub fn of_node(node: &Node) -> Vec<Taint> {
    let mut taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let ready = conditions
        .unwrap_or_default()
        .iter()
        .find(|condition| condition.type_ == "Ready");
    let derived = match ready.map(|condition| condition.status.as_str()) {
        Some("True") => return taints,
        Some("Unknown") => no_schedule(UNREACHABLE),
        _ => no_schedule(NOT_READY),
    };
    taints.push(derived);
    taints
}

fn no_schedule(key: &str) -> Taint {
    Taint {
        key: key.into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tolerations_match() {
        let taint: Taint =
            serde_json::from_value(json!({"key": "a", "value": "5", "effect": "NoSchedule"}))
                .expect("a taint");
        let table: [(Value, bool); 10] = [
            (
                json!({"key": "a", "operator": "Equal", "value": "5", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "a", "value": "5"}), true),
            (json!({"key": "a", "value": "6"}), false),
            (json!({"key": "b", "operator": "Exists"}), false),
            (json!({"key": "a", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "", "operator": "Equal", "value": "5"}), false),
            (json!({"key": "a", "operator": "Gt", "value": "4"}), true),
            (json!({"key": "a", "operator": "Lt", "value": "4"}), false),
        ];
        for (toleration, wanted) in table {
            let parsed: Toleration =
                serde_json::from_value(toleration.clone()).expect("a toleration");
            assert_eq!(tolerates(&parsed, &taint), wanted, "{toleration}");
        }
    }

    #[test]
    fn a_node_that_is_not_ready_is_tainted() {
        for (status, key) in [
            ("True", None),
            ("False", Some(NOT_READY)),
            ("Unknown", Some(UNREACHABLE)),
        ] {
            let node = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
            let taints = of_node(&serde_json::from_value(node).expect("a node"));
            assert_eq!(
                taints.first().map(|taint| taint.key.as_str()),
                key,
                "{status}"
            );
        }
        assert_eq!(of_node(&Node::default())[0].key, NOT_READY);
    }
}

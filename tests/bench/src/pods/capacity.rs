//! Where pods fit.

use k8s_openapi::api::core::v1::{Node, Pod};

/// Ready, not cordoned, and with no taint that keeps ordinary pods away.
pub fn usable(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    let tainted = spec
        .and_then(|spec| spec.taints.as_ref())
        .is_some_and(|taints| taints.iter().any(|t| t.effect != "PreferNoSchedule"));
    let ready = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
    ready && !cordoned && !tainted
}

/// How many more pods this node takes, by its allocatable pods.
pub fn room(node: &Node, pods: &[Pod]) -> usize {
    let allocatable = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref())
        .and_then(|all| all.get("pods"))
        .and_then(|quantity| quantity.0.parse::<usize>().ok())
        .unwrap_or(0);
    let name = node.metadata.name.as_deref();
    let taken = pods.iter().filter(|pod| takes_place(pod, name)).count();
    allocatable.saturating_sub(taken)
}

/// What has ended frees its place before it is deleted.
fn takes_place(pod: &Pod, node: Option<&str>) -> bool {
    let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    on.is_some() && on == node && !matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(spec: Value, ready: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "node-1"},
            "spec": spec,
            "status": {
                "allocatable": {"pods": "3"},
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }))
        .unwrap()
    }

    fn pod(node: Option<&str>, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {}, "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_is_usable_when_it_takes_ordinary_pods() {
        let tainted = |effect: &str| json!({"taints": [{"key": "k", "effect": effect}]});
        for (spec, ready, wanted) in [
            (json!({}), "True", true),
            (json!({}), "Unknown", false),
            (json!({"unschedulable": true}), "True", false),
            (tainted("NoSchedule"), "True", false),
            (tainted("NoExecute"), "True", false),
            (tainted("PreferNoSchedule"), "True", true),
        ] {
            assert_eq!(usable(&node(spec.clone(), ready)), wanted, "{spec} {ready}");
        }
        assert!(!usable(&Node::default()));
    }

    #[test]
    fn room_is_what_living_pods_leave() {
        let here = Some("node-1");
        for (pods, wanted) in [
            (vec![], 3),
            (vec![pod(here, "Running"), pod(here, "Pending")], 1),
            (vec![pod(here, "Succeeded"), pod(here, "Failed")], 3),
            (
                vec![pod(Some("node-2"), "Running"), pod(None, "Pending")],
                3,
            ),
            ((0..5).map(|_| pod(here, "Running")).collect(), 0),
        ] {
            assert_eq!(room(&node(json!({}), "True"), &pods), wanted);
        }
        assert_eq!(room(&Node::default(), &[]), 0);
    }
}

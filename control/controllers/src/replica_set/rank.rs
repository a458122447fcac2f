//! Which pods a ReplicaSet gives up first.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pod;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Pods in the order of their deletion. `related` are the pods of all sets with the same owner: of
/// two alike, the one on the node with more of them goes first.
pub fn ordered(mut pods: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for node in related
        .iter()
        .filter(|pod| pod::is_active(pod))
        .filter_map(|pod| pod::node_name(pod))
    {
        *crowd.entry(node).or_default() += 1;
    }
    pods.sort_by(|a, b| compare(a, b, &crowd));
    pods
}

/// Less is deleted first.
fn compare(a: &Pod, b: &Pod, crowd: &HashMap<&str, usize>) -> Ordering {
    let ready = (pod::is_ready(a), pod::is_ready(b));
    let crowded = |pod: &Pod| {
        pod::node_name(pod)
            .and_then(|node| crowd.get(node))
            .copied()
            .unwrap_or(0)
    };
    pod::node_name(a)
        .is_some()
        .cmp(&pod::node_name(b).is_some())
        .then_with(|| progress(a).cmp(&progress(b)))
        .then_with(|| ready.0.cmp(&ready.1))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| Reverse(crowded(a)).cmp(&Reverse(crowded(b))))
        .then_with(|| match ready {
            // An unknown time sorts before all known: those went ready latest, as far as one knows.
            (true, true) => newest(pod::ready_since(a), pod::ready_since(b)),
            _ => Ordering::Equal,
        })
        .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
        .then_with(|| newest(created(a), created(b)))
        // Two decisions over the same pods choose the same.
        .then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

fn newest(a: Option<jiff::Timestamp>, b: Option<jiff::Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.cmp(&a),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

fn progress(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    }
}

fn cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    statuses
        .iter()
        .map(|status| status.restart_count)
        .max()
        .unwrap_or(0)
}

fn created(pod: &Pod) -> Option<jiff::Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: &str, phase: &str, ready: bool, extra: Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {}},
            "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": [{
                "type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-01-01T00:00:10Z",
            }]},
        });
        if let Some(cost) = extra.get("cost") {
            value["metadata"]["annotations"][DELETION_COST] = cost.clone();
        }
        if let Some(at) = extra.get("created") {
            value["metadata"]["creationTimestamp"] = at.clone();
        }
        if let Some(at) = extra.get("since") {
            value["status"]["conditions"][0]["lastTransitionTime"] = at.clone();
        }
        if let Some(restarts) = extra.get("restarts") {
            value["status"]["containerStatuses"] = json!([{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": restarts}]);
        }
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    #[test]
    fn the_first_to_go() {
        let none = || json!({});
        let table: Vec<(&str, Arc<Pod>, Arc<Pod>)> = vec![
            (
                "unassigned",
                pod("x", "", "Pending", false, none()),
                pod("a", "n", "Pending", false, none()),
            ),
            (
                "pending",
                pod("x", "n", "Pending", false, none()),
                pod("a", "n", "Running", false, none()),
            ),
            (
                "not ready",
                pod("x", "n", "Running", false, none()),
                pod("a", "n", "Running", true, none()),
            ),
            (
                "cheaper",
                pod("x", "n", "Running", true, json!({"cost": "-5"})),
                pod("a", "n", "Running", true, none()),
            ),
            (
                "ready for less time",
                pod(
                    "x",
                    "n",
                    "Running",
                    true,
                    json!({"since": "2026-01-02T00:00:00Z"}),
                ),
                pod("a", "n", "Running", true, none()),
            ),
            (
                "more restarts",
                pod("x", "n", "Running", true, json!({"restarts": 3})),
                pod("a", "n", "Running", true, json!({"restarts": 1})),
            ),
            (
                "newer",
                pod(
                    "x",
                    "n",
                    "Running",
                    true,
                    json!({"created": "2026-01-03T00:00:00Z"}),
                ),
                pod("a", "n", "Running", true, none()),
            ),
        ];
        for (why, first, second) in table {
            let sorted = ordered(vec![second.clone(), first.clone()], &[]);
            assert_eq!(sorted[0].metadata.name, first.metadata.name, "{why}");
        }
    }

    #[test]
    fn crowded_nodes_give_first() {
        let a = pod("a", "lonely", "Running", true, json!({}));
        let b = pod("b", "crowded", "Running", true, json!({}));
        let other = pod("c", "crowded", "Running", true, json!({}));
        let sorted = ordered(vec![a.clone(), b.clone()], &[a, b.clone(), other]);
        assert_eq!(sorted[0].metadata.name, b.metadata.name);
    }
}

//! Which pods go, and why.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::time::Instant;

use crate::key::{is_deleted, name_of};
use crate::node::{Ready, ready, taints};
use crate::pod;

/// Set by hand on a node that is known to be off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    NoNode,
    TooManyEnded,
    NeverScheduled,
    OutOfService,
}

impl Why {
    /// The message of the condition DisruptionTarget, where the pod is torn from its work.
    pub fn disruption(self) -> Option<&'static str> {
        (self == Why::NoNode).then_some("PodGC: node no longer exists")
    }
}

pub struct Observed<'a> {
    pub pods: Vec<Arc<Pod>>,
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// Kept from pass to pass.
    pub missing: &'a mut HashMap<String, Instant>,
    pub quarantine: Duration,
    pub terminated: usize,
    pub now: Instant,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub delete: Vec<(Arc<Pod>, Why)>,
    /// Nodes to make sure of before pods are deleted for their absence.
    pub verify: BTreeSet<String>,
    /// When the next quarantine ends.
    pub again: Option<Duration>,
}

pub fn is_out_of_service(node: &Node) -> bool {
    ready(node) != Ready::True && taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

pub fn plan(observed: Observed<'_>) -> Plan {
    let Observed {
        pods,
        node,
        missing,
        quarantine,
        terminated,
        now,
    } = observed;
    let mut plan = Plan::default();
    let mut seen_missing = BTreeSet::new();
    let mut ended = Vec::new();
    for pod in &pods {
        let why = match pod::node_name(pod) {
            None => is_deleted(pod.as_ref()).then_some(Why::NeverScheduled),
            Some(name) => match node(name) {
                Some(node) => (is_deleted(pod.as_ref()) && is_out_of_service(&node))
                    .then_some(Why::OutOfService),
                None => {
                    seen_missing.insert(name.to_owned());
                    let since = *missing.entry(name.to_owned()).or_insert(now);
                    let left = (since + quarantine).saturating_duration_since(now);
                    if left.is_zero() {
                        plan.verify.insert(name.to_owned());
                        Some(Why::NoNode)
                    } else {
                        plan.again = Some(plan.again.map_or(left, |other| other.min(left)));
                        None
                    }
                }
            },
        };
        match why {
            Some(why) => plan.delete.push((pod.clone(), why)),
            None if pod::is_terminal(pod) && !is_deleted(pod.as_ref()) => ended.push(pod.clone()),
            None => {}
        }
    }
    missing.retain(|name, _| seen_missing.contains(name));
    if let Some(surplus) = ended.len().checked_sub(terminated).filter(|own| *own > 0) {
        ended.sort_by_key(|pod| rank(pod));
        let first = ended.into_iter().take(surplus);
        plan.delete
            .extend(first.map(|pod| (pod, Why::TooManyEnded)));
    }
    plan
}

/// Evicted pods first, then the oldest.
fn rank(pod: &Pod) -> (bool, Option<jiff::Timestamp>, String) {
    let status = pod.status.as_ref();
    let evicted = status.and_then(|status| status.reason.as_deref()) == Some("Evicted");
    let made = pod.metadata.creation_timestamp.as_ref();
    (!evicted, made.map(|time| time.0), name_of(pod).to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, node: Option<&str>, fields: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"namespace": "d", "name": name}, "spec": {"containers": [], "nodeName": node},
            "status": {"phase": fields["phase"], "reason": fields["reason"]},
        });
        if fields["deleted"] == true {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        if let Some(made) = fields["made"].as_str() {
            pod["metadata"]["creationTimestamp"] = made.into();
        }
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn node(name: &str) -> Option<Arc<Node>> {
        let (ready, taints) = match name {
            "well" => (
                "True",
                json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]),
            ),
            "off" => (
                "Unknown",
                json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]),
            ),
            "lost" => ("Unknown", json!([])),
            _ => return None,
        };
        let node = json!({
            "metadata": {"name": name}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Some(Arc::new(serde_json::from_value(node).expect("a node")))
    }

    fn run(pods: Vec<Arc<Pod>>, missing: &mut HashMap<String, Instant>, now: Instant) -> Plan {
        plan(Observed {
            pods,
            node: &node,
            missing,
            quarantine: Duration::from_secs(40),
            terminated: 2,
            now,
        })
    }

    fn names(plan: &Plan) -> Vec<(&str, Why)> {
        let all = plan.delete.iter();
        all.map(|(pod, why)| (name_of(pod.as_ref()), *why))
            .collect()
    }

    #[test]
    fn pods_of_missing_nodes_go_after_the_quarantine() {
        let (mut missing, start) = (HashMap::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let pods = || {
            vec![
                pod("a", Some("gone"), json!({})),
                pod("b", Some("lost"), json!({})),
            ]
        };
        let first = run(pods(), &mut missing, start);
        assert_eq!(
            (names(&first), first.again),
            (vec![], Some(Duration::from_secs(40)))
        );
        let second = run(pods(), &mut missing, at(30));
        assert_eq!(second.again, Some(Duration::from_secs(10)));
        let third = run(pods(), &mut missing, at(40));
        assert_eq!(names(&third), [("a", Why::NoNode)]);
        assert!(third.verify.contains("gone"));
        // Nobody names it any more: it starts anew.
        run(vec![], &mut missing, at(41));
        assert_eq!(names(&run(pods(), &mut missing, at(42))), []);
    }

    #[test]
    fn deleted_pods_that_nobody_ends() {
        let deleted = json!({"deleted": true});
        let pods = vec![
            pod("a", None, deleted.clone()),
            pod("b", None, json!({})),
            pod("c", Some("well"), deleted.clone()),
            pod("d", Some("lost"), deleted.clone()),
            pod("e", Some("off"), deleted),
            pod("f", Some("off"), json!({})),
        ];
        let planned = run(pods, &mut HashMap::new(), Instant::now());
        assert_eq!(
            names(&planned),
            [("a", Why::NeverScheduled), ("e", Why::OutOfService)]
        );
    }

    #[test]
    fn the_oldest_ended_pods_go_evicted_ones_first() {
        let ended = |name: &str, phase: &str, reason: &str, day: &str| {
            let made = format!("2026-01-{day}T00:00:00Z");
            let fields = json!({"phase": phase, "reason": reason, "made": made});
            pod(name, Some("lost"), fields)
        };
        let pods = vec![
            ended("a", "Succeeded", "", "02"),
            ended("b", "Failed", "", "01"),
            ended("c", "Failed", "Evicted", "03"),
            ended("d", "Running", "", "01"),
            ended("e", "Succeeded", "", "03"),
        ];
        let planned = run(pods, &mut HashMap::new(), Instant::now());
        assert_eq!(
            names(&planned),
            [("c", Why::TooManyEnded), ("b", Why::TooManyEnded)]
        );
    }
}

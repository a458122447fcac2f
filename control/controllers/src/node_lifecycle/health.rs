//! Since when a node is silent, by the clock of this process, and what that means.
//!
//! Times that a node wrote are only compared with each other: a new one is a sign of life now. So
//! neither clocks that differ nor a control plane that was down make a node look lost.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

use crate::events::whole_seconds;
use crate::node;

/// A node that never said whether it is ready may take this long to start.
const STARTUP: Duration = Duration::from_secs(60);
/// Conditions that a silent node can no longer vouch for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The signs of life of one node.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    uid: Option<String>,
    status: Option<Timestamp>,
    lease: Option<Timestamp>,
    seen: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again then.
    Alive(Duration),
    /// Silent for a while: make sure that the API server can be reached, and look again then. A
    /// node that cannot renew its lease is not to blame.
    Silent(Duration),
    Lost,
}

impl Heartbeat {
    pub fn new(node: &Node, now: Instant) -> Heartbeat {
        Heartbeat {
            uid: node.metadata.uid.clone(),
            status: status_time(node),
            lease: None,
            seen: now,
        }
    }

    /// Whether these are the signs of this node, not of an earlier one with its name.
    pub fn is_of(&self, node: &Node) -> bool {
        self.uid == node.metadata.uid
    }

    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    pub fn see_node(&mut self, node: &Node, now: Instant) {
        let status = status_time(node);
        if status != self.status {
            self.status = status;
            self.seen = now;
        }
    }

    pub fn see_lease(&mut self, lease: &Lease, now: Instant) {
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref())
            .map(|time| time.0);
        if renewed > self.lease {
            self.lease = renewed;
            self.seen = now;
        }
    }

    /// The node could not have been heard: its time starts anew.
    pub fn excuse(&mut self, now: Instant) {
        self.seen = now;
    }

    pub fn judge(&self, node: &Node, grace: Duration, now: Instant) -> Verdict {
        let grace = match node::ready(node) {
            node::Ready::Unsaid => grace.max(STARTUP),
            _ => grace,
        };
        let silent = now.saturating_duration_since(self.seen);
        let step = grace / 4;
        if silent > grace {
            Verdict::Lost
        } else if silent < step {
            Verdict::Alive(step - silent)
        } else {
            // A moment past the limit rather than just before it.
            Verdict::Silent(step.min(grace - silent) + Duration::from_millis(1))
        }
    }
}

/// When the node last wrote its Ready condition.
fn status_time(node: &Node) -> Option<Timestamp> {
    let ready = node::condition(node, "Ready")?;
    ready.last_heartbeat_time.as_ref().map(|time| time.0)
}

/// The conditions of a lost node; None: they say so already.
pub fn lost_conditions(node: &Node, now: Timestamp) -> Option<Vec<NodeCondition>> {
    let status = node.status.as_ref();
    let old = status
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let now = Some(Time(whole_seconds(now)));
    let mut conditions = old.to_vec();
    for kind in VOUCHED {
        match conditions.iter_mut().find(|own| own.type_ == kind) {
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: now.clone(),
            }),
            Some(own) if own.status == "Unknown" => {}
            Some(own) => {
                own.status = "Unknown".into();
                own.reason = Some("NodeStatusUnknown".into());
                own.message = Some("Kubelet stopped posting node status.".into());
                own.last_transition_time = now.clone();
            }
        }
    }
    (conditions != old).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: Option<(&str, &str)>) -> Node {
        let mut conditions: Vec<Value> =
            vec![json!({"type": "NetworkUnavailable", "status": "False"})];
        if let Some((status, beat)) = ready {
            conditions.push(json!({"type": "Ready", "status": status, "lastHeartbeatTime": beat}));
        }
        let node = json!({
            "metadata": {"name": "n1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(node).expect("a node")
    }

    fn lease(renewed: &str) -> Lease {
        serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"renewTime": renewed}}))
            .expect("a lease")
    }

    const BEAT: &str = "2020-01-01T00:00:00Z";

    #[test]
    fn silence_is_measured_by_our_own_clock() {
        let (grace, start) = (Duration::from_secs(40), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        // Written years ago, as after a long time without a control plane.
        let old = node(Some(("True", BEAT)));
        let mut heart = Heartbeat::new(&old, start);
        assert_eq!(
            heart.judge(&old, grace, start),
            Verdict::Alive(Duration::from_secs(10))
        );
        assert_eq!(
            heart.judge(&old, grace, at(4)),
            Verdict::Alive(Duration::from_secs(6))
        );
        let soon = Duration::from_millis(10_001);
        assert_eq!(heart.judge(&old, grace, at(10)), Verdict::Silent(soon));
        assert_eq!(
            heart.judge(&old, grace, at(38)),
            Verdict::Silent(Duration::from_millis(2001))
        );
        assert_eq!(heart.judge(&old, grace, at(41)), Verdict::Lost);

        // The first lease seen, and each newer one, is a sign of life; the same one is none.
        heart.see_lease(&lease("2019-01-01T00:00:00.000000Z"), at(30));
        assert_ne!(heart.judge(&old, grace, at(41)), Verdict::Lost);
        heart.see_lease(&lease("2019-01-01T00:00:00.000000Z"), at(60));
        assert_eq!(heart.judge(&old, grace, at(71)), Verdict::Lost);
        heart.see_lease(&lease("2019-01-01T00:00:00.500000Z"), at(80));
        assert_ne!(heart.judge(&old, grace, at(81)), Verdict::Lost);

        // So is a status; one that differs from the last one seen, whatever its clock says.
        heart.see_node(&node(Some(("False", "2018-01-01T00:00:00Z"))), at(130));
        assert_ne!(heart.judge(&old, grace, at(131)), Verdict::Lost);
        heart.excuse(at(200));
        assert_ne!(heart.judge(&old, grace, at(239)), Verdict::Lost);
    }

    #[test]
    fn a_new_node_has_a_minute() {
        let (grace, start) = (Duration::from_secs(5), Instant::now());
        let new = node(None);
        let heart = Heartbeat::new(&new, start);
        assert_ne!(
            heart.judge(&new, grace, start + Duration::from_secs(59)),
            Verdict::Lost
        );
        assert_eq!(
            heart.judge(&new, grace, start + Duration::from_secs(61)),
            Verdict::Lost
        );
    }

    #[test]
    fn another_node_of_the_same_name_is_another_node() {
        let mut reborn = node(None);
        let heart = Heartbeat::new(&reborn, Instant::now());
        assert!(heart.is_of(&reborn));
        reborn.metadata.uid = Some("v".into());
        assert!(!heart.is_of(&reborn));
    }

    #[test]
    fn a_lost_node_vouches_for_nothing() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().expect("a time");
        let mut lost = node(Some(("True", BEAT)));
        let conditions = lost_conditions(&lost, now).expect("a change");
        let told: Vec<String> = conditions
            .iter()
            .map(|own| {
                format!(
                    "{} {} {}",
                    own.type_,
                    own.status,
                    own.reason.clone().unwrap_or_default()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "NetworkUnavailable False ",
                "Ready Unknown NodeStatusUnknown",
                "MemoryPressure Unknown NodeStatusNeverUpdated",
                "DiskPressure Unknown NodeStatusNeverUpdated",
                "PIDPressure Unknown NodeStatusNeverUpdated",
            ]
        );
        let ready = &conditions[1];
        assert_eq!(
            ready.message.as_deref(),
            Some("Kubelet stopped posting node status.")
        );
        assert_eq!(ready.last_transition_time, Some(Time(now)));
        let beat = ready
            .last_heartbeat_time
            .as_ref()
            .map(|time| time.0.to_string());
        assert_eq!(beat.as_deref(), Some(BEAT), "the node's own last word");
        lost.status.as_mut().expect("a status").conditions = Some(conditions);
        assert_eq!(lost_conditions(&lost, now), None);
    }
}

//! Taints that say what conditions say: NoSchedule keeps new pods away, NoExecute evicts.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::events::whole_seconds;
use crate::node::{
    self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, Ready, UNREACHABLE, has_taint, ready, taints,
};

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition, the status that is bad, taint.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    (
        "MemoryPressure",
        "True",
        "node.kubernetes.io/memory-pressure",
    ),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// What may happen to pods of a node that is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Their toleration's time runs.
    Begin,
    /// Not now: others go first, or too many nodes are lost for it to be their own fault.
    Later,
    /// No node is well: it is not the nodes, and nobody gains by moving pods.
    Never,
}

/// Whether the node lacks the taint that evicts, and would get it.
pub fn wants_eviction(node: &Node) -> bool {
    no_execute(node).is_some() && !is_evicted(node)
}

/// Has either taint that evicts.
pub fn is_evicted(node: &Node) -> bool {
    [NOT_READY, UNREACHABLE]
        .into_iter()
        .any(|key| has_taint(node, key, NO_EXECUTE))
}

fn no_execute(node: &Node) -> Option<&'static str> {
    match ready(node) {
        Ready::False => Some(NOT_READY),
        Ready::Unknown => Some(UNREACHABLE),
        Ready::True | Ready::Unsaid => None,
    }
}

/// The node's taints as they ought to be; None: they are.
pub fn plan(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted: Vec<(&str, &str)> = BY_CONDITION
        .into_iter()
        .filter(|(kind, bad, _)| {
            node::condition(node, kind).is_some_and(|condition| condition.status == *bad)
        })
        .map(|(_, _, key)| (key, NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    if let Some(key) = no_execute(node) {
        // One that evicts already is only renamed: False has become Unknown, or the reverse.
        let begins = eviction == Eviction::Begin || is_evicted(node);
        if begins && eviction != Eviction::Never {
            wanted.push((key, NO_EXECUTE));
        }
    }
    let unsaid = ready(node) == Ready::Unsaid;
    let is_ours = |taint: &Taint| {
        let of_ready = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        let of_condition =
            taint.key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, key)| *key == taint.key);
        match taint.effect.as_str() {
            // A node is born with the taint and keeps it until it says that it is ready.
            NO_SCHEDULE => of_condition && !(of_ready && unsaid),
            NO_EXECUTE => of_ready,
            _ => false,
        }
    };
    let is =
        |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let mut new = taints(node).to_vec();
    new.retain(|taint| !is_ours(taint) || wanted.iter().any(|own| is(taint, *own)));
    for own in wanted {
        if !new.iter().any(|taint| is(taint, own)) {
            new.push(Taint {
                key: own.0.into(),
                effect: own.1.into(),
                time_added: Some(Time(whole_seconds(now))),
                value: None,
            });
        }
    }
    (new != taints(node)).then_some(new)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], cordoned: bool) -> Node {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
        let taints: Vec<Value> = taints
            .iter()
            .map(|(key, effect)| json!({"key": key, "effect": effect}))
            .collect();
        let node = json!({
            "metadata": {"name": "n1"},
            "spec": {"taints": taints, "unschedulable": cordoned},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn taints_follow_conditions() {
        use Eviction::{Begin, Later, Never};
        let (schedule, execute) = (NO_SCHEDULE, NO_EXECUTE);
        type Taints = &'static [(&'static str, &'static str)];
        type Conditions = &'static [(&'static str, &'static str)];
        let lost: Taints = &[(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)];
        let mine: Taints = &[("example.com/mine", NO_EXECUTE)];
        let disk: Taints = &[("node.kubernetes.io/disk-pressure", NO_SCHEDULE)];
        // (conditions, taints before, cordoned, eviction) -> taints after; None: no change
        type Row = (
            Conditions,
            Taints,
            bool,
            Eviction,
            Option<Vec<(&'static str, &'static str)>>,
        );
        let table: [Row; 14] = [
            (&[("Ready", "True")], &[], false, Begin, None),
            (&[("Ready", "True")], mine, false, Begin, None),
            (&[("Ready", "True")], lost, false, Begin, Some(vec![])),
            (
                &[("Ready", "Unknown")],
                mine,
                false,
                Begin,
                Some(vec![
                    mine[0],
                    (UNREACHABLE, schedule),
                    (UNREACHABLE, execute),
                ]),
            ),
            (
                &[("Ready", "Unknown")],
                &[],
                false,
                Later,
                Some(vec![(UNREACHABLE, schedule)]),
            ),
            (&[("Ready", "Unknown")], lost, false, Later, None),
            (
                &[("Ready", "Unknown")],
                lost,
                false,
                Never,
                Some(vec![(UNREACHABLE, schedule)]),
            ),
            (
                &[("Ready", "False")],
                lost,
                false,
                Later,
                Some(vec![(NOT_READY, schedule), (NOT_READY, execute)]),
            ),
            (
                &[("Ready", "False")],
                &[],
                false,
                Begin,
                Some(vec![(NOT_READY, schedule), (NOT_READY, execute)]),
            ),
            (&[], &[(NOT_READY, NO_SCHEDULE)], false, Begin, None),
            (
                &[("Ready", "True"), ("MemoryPressure", "Unknown")],
                &[(NOT_READY, NO_SCHEDULE)],
                false,
                Begin,
                Some(vec![]),
            ),
            (
                &[("Ready", "True"), ("DiskPressure", "True")],
                &[],
                false,
                Begin,
                Some(disk.to_vec()),
            ),
            (
                &[("Ready", "True"), ("DiskPressure", "False")],
                disk,
                true,
                Begin,
                Some(vec![(UNSCHEDULABLE, schedule)]),
            ),
            (
                &[("Ready", "True")],
                &[("node.kubernetes.io/disk-pressure", "NoExecute")],
                false,
                Begin,
                None,
            ),
        ];
        for (conditions, before, cordoned, eviction, after) in table {
            let planned = plan(
                &node(conditions, before, cordoned),
                eviction,
                Timestamp::UNIX_EPOCH,
            );
            let name = |(key, effect): (&str, &str)| format!("{key}:{effect}");
            let told = planned.map(|taints| -> Vec<String> {
                let all = taints.iter();
                all.map(|own| name((&own.key, &own.effect))).collect()
            });
            let after = after.map(|all| -> Vec<String> { all.into_iter().map(name).collect() });
            assert_eq!(told, after, "{conditions:?} {before:?} {eviction:?}");
        }
    }

    #[test]
    fn new_taints_have_a_time() {
        let planned = plan(
            &node(&[("Ready", "Unknown")], &[], false),
            Eviction::Later,
            Timestamp::UNIX_EPOCH,
        );
        let time = planned.expect("a change").remove(0).time_added;
        assert_eq!(time, Some(Time(Timestamp::UNIX_EPOCH)));
    }
}

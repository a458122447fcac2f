//! What of a status differs, as a strategic merge patch.

use serde_json::{Map, Value, json};

use super::conditions::RESIZING;

/// What the kubelet owns of a pod's status, conditions apart.
const FIELDS: [&str; 13] = [
    "containerStatuses",
    "hostIP",
    "hostIPs",
    "initContainerStatuses",
    "message",
    "observedGeneration",
    "phase",
    "podIP",
    "podIPs",
    "qosClass",
    "reason",
    "resources",
    "startTime",
];
/// Lists that merge by a key: to replace one takes a word.
const MERGING: [&str; 2] = ["hostIPs", "podIPs"];

/// `None` when the server has it all. The uid keeps it off a later pod of the
/// same name.
pub fn patch(uid: &str, server: &Value, wanted: &Value) -> Option<Value> {
    let mut status = Map::new();
    for field in FIELDS {
        let (old, new) = (&server[field], &wanted[field]);
        if old == new {
            continue;
        }
        let value = match new {
            Value::Array(items) if MERGING.contains(&field) => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(items.iter().cloned());
                Value::Array(list)
            }
            other => other.clone(),
        };
        status.insert(field.to_owned(), value);
    }
    let conditions = conditions(&server["conditions"], &wanted["conditions"]);
    if !conditions.is_empty() {
        status.insert("conditions".to_owned(), Value::Array(conditions));
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn conditions(server: &Value, wanted: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (server, wanted) = (list(server), list(wanted));
    let has = |list: &[Value], kind: &str| list.iter().any(|own| own["type"] == kind);
    let over = RESIZING
        .into_iter()
        .filter(|kind| has(&server, kind) && !has(&wanted, kind));
    let mut changed: Vec<Value> = over
        .map(|kind| json!({"$patch": "delete", "type": kind}))
        .collect();
    for new in wanted {
        let old = server.iter().find(|old| old["type"] == new["type"]);
        if old == Some(&new) {
            continue;
        }
        let mut new = new;
        // A merge keeps what the new one no longer says.
        if let (Some(Value::Object(old)), Value::Object(new)) = (old, &mut new) {
            for key in old.keys() {
                new.entry(key.clone()).or_insert(Value::Null);
            }
        }
        changed.push(new);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs() {
        let ready = |status: &str| json!({"type": "Ready", "status": status});
        let uid = json!({"uid": "u"});
        for (server, wanted, want) in [
            (
                json!({"phase": "Running"}),
                json!({"phase": "Running"}),
                None,
            ),
            (
                json!({"phase": "Pending", "reason": "r", "nominatedNodeName": "n"}),
                json!({"phase": "Running"}),
                Some(json!({"phase": "Running", "reason": null})),
            ),
            (
                json!({"conditions": [ready("True"), {"type": "Mine", "status": "True"}]}),
                json!({"conditions": [ready("True")]}),
                None,
            ),
            (
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "r"}]}),
                json!({"conditions": [ready("True")]}),
                Some(json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}]})),
            ),
            (
                json!({"conditions": [{"type": "PodResizePending", "status": "True"}, {"type": "Mine", "status": "True"}]}),
                json!({"conditions": []}),
                Some(json!({"conditions": [{"$patch": "delete", "type": "PodResizePending"}]})),
            ),
            (
                json!({"podIPs": [{"ip": "10.0.0.1"}]}),
                json!({"podIPs": [{"ip": "10.0.0.2"}]}),
                Some(json!({"podIPs": [{"$patch": "replace"}, {"ip": "10.0.0.2"}]})),
            ),
            (
                json!({}),
                json!({"containerStatuses": [{"name": "c"}]}),
                Some(json!({"containerStatuses": [{"name": "c"}]})),
            ),
        ] {
            let want = want.map(|status| json!({"metadata": uid, "status": status}));
            assert_eq!(patch("u", &server, &wanted), want, "{server} {wanted}");
        }
    }
}

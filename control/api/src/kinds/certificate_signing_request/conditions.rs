//! Conditions of a request, and when they were written.

use jiff::Timestamp;
use serde_json::Value;

use crate::decode::format_time;
use crate::value::ValueExt;

pub fn of<'a>(csr: &'a Value, kind: &str) -> Vec<&'a Value> {
    csr.list_at("/status/conditions")
        .iter()
        .filter(|own| own.str_at("/type") == kind)
        .collect()
}

/// Times that the client leaves out: of the update now, of the transition when the status last changed.
pub fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    let now = format_time(now);
    let Some(conditions) = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for condition in conditions {
        if condition.str_at("/lastTransitionTime").is_empty() {
            let before = of(old, condition.str_at("/type")).into_iter().find(|own| {
                own.str_at("/status") == condition.str_at("/status")
                    && own.has("/lastTransitionTime")
            });
            let since = before.map_or(now.as_str(), |own| own.str_at("/lastTransitionTime"));
            set(condition, "lastTransitionTime", since);
        }
        if condition.str_at("/lastUpdateTime").is_empty() {
            set(condition, "lastUpdateTime", &now);
        }
    }
}

fn set(condition: &mut Value, key: &str, time: &str) {
    if let Some(map) = condition.as_object_mut() {
        map.insert(key.into(), time.into());
    }
}

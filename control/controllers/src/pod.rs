//! What controllers ask about pods.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use vetch_api::time::later;

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Its containers have ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Counts as a replica.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|name| !name.is_empty())
}

/// Names of the claims that its volumes are of.
pub fn claims(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| vetch_volumes::claim::name_of(pod, volume))
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long until the pod has been ready for `min_ready_seconds`: None if it is not ready, zero if
/// it is available.
pub fn until_available(
    pod: &Pod,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<SignedDuration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds == 0 {
        return Some(SignedDuration::ZERO);
    }
    let ready = ready_since(pod)?;
    let available = later(ready, SignedDuration::from_secs(min_ready_seconds.into()));
    Some(available.duration_since(now).max(SignedDuration::ZERO))
}

/// `subset` says nothing that `labels` do not say.
pub fn has_labels(
    labels: Option<&BTreeMap<String, String>>,
    subset: &BTreeMap<String, String>,
) -> bool {
    subset
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// A delay for a work queue: a little late rather than too early.
pub fn delay(until: SignedDuration) -> std::time::Duration {
    std::time::Duration::try_from(until).unwrap_or_default() + std::time::Duration::from_millis(50)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_available_once_it_has_been_ready_for_long_enough() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        for (status, since, min_ready, left) in [
            ("False", "2026-01-01T00:00:00Z", 0, None),
            ("True", "2026-01-01T00:00:00Z", 0, Some(0)),
            ("True", "2026-01-01T00:00:00Z", 60, Some(0)),
            ("True", "2026-01-01T00:00:00Z", 61, Some(1)),
            // Whoever writes a pod's status writes this too.
            (
                "True",
                "9999-12-30T22:00:00Z",
                i32::MAX,
                Some(Timestamp::MAX.duration_since(now).as_secs()),
            ),
        ] {
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {"name": "p"}, "status": {"conditions": [
                    {"type": "Ready", "status": status, "lastTransitionTime": since},
                ]}}),
            )
            .unwrap();
            let found = until_available(&pod, min_ready, now).map(|left| left.as_secs());
            assert_eq!(found, left, "{status} since {since}, {min_ready} s");
        }
    }
}

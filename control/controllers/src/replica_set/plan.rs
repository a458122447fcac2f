//! What a ReplicaSet's pods lack, and what its status says.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::rank::ordered;
use crate::ownership::controller_reference;
use crate::{events, pod};

/// At most this many creations or deletions between two looks.
const BURST: usize = 500;

#[derive(Debug, PartialEq)]
pub enum Plan {
    Create(usize),
    Delete(Vec<Arc<Pod>>),
    Nothing,
}

/// `active` are the set's pods that count; `related` those of its siblings, too.
pub fn plan(wanted: i32, active: Vec<Arc<Pod>>, related: &[Arc<Pod>]) -> Plan {
    let wanted = usize::try_from(wanted).unwrap_or(0);
    match active.len() {
        have if have < wanted => Plan::Create((wanted - have).min(BURST)),
        have if have > wanted => {
            let mut first = ordered(active, related);
            first.truncate((have - wanted).min(BURST));
            Plan::Delete(first)
        }
        _ => Plan::Nothing,
    }
}

/// A pod of the set's template.
pub fn pod_from_template(set: &ReplicaSet) -> Pod {
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: set.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![controller_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The set's status over its pods, and when it may change by time alone.
pub fn status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<SignedDuration>) {
    let spec = set.spec.clone().unwrap_or_default();
    let labels = spec
        .template
        .and_then(|template| template.metadata)
        .and_then(|meta| meta.labels)
        .unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let (mut replicas, mut labeled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    let mut soonest: Option<SignedDuration> = None;
    for pod in pods {
        if !pod::is_active(pod) {
            terminating += i32::from(!pod::is_terminal(pod));
            continue;
        }
        replicas += 1;
        labeled += i32::from(pod::has_labels(pod.metadata.labels.as_ref(), &labels));
        ready += i32::from(pod::is_ready(pod));
        match pod::until_available(pod, min_ready, now) {
            Some(SignedDuration::ZERO) => available += 1,
            Some(wait) => soonest = Some(soonest.map_or(wait, |other| other.min(wait))),
            None => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: some(labeled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
    };
    (status, soonest)
}

/// Zeros are left out of these fields, as Kubernetes' own types do.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    const FAILURE: &str = "ReplicaFailure";
    let mut conditions = old.unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| condition.type_ != FAILURE),
        Some(_)
            if conditions
                .iter()
                .any(|condition| condition.type_ == FAILURE) => {}
        Some((reason, message)) => conditions.push(ReplicaSetCondition {
            type_: FAILURE.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(events::whole_seconds(now))),
        }),
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// Sizes of the attempts to create `count` pods: 1, 2, 4... so that a create that is bound to fail
/// does not fail a hundred times.
pub fn batches(count: usize) -> Vec<usize> {
    let (mut left, mut size, mut sizes) = (count, 1, Vec::new());
    while left > 0 {
        let batch = size.min(left);
        sizes.push(batch);
        left -= batch;
        size *= 2;
    }
    sizes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(count: usize) -> Vec<Arc<Pod>> {
        (0..count)
            .map(|i| {
                let pod = json!({"metadata": {"name": format!("p{i}"), "uid": i.to_string()}, "spec": {"containers": []}});
                Arc::new(serde_json::from_value(pod).expect("a pod"))
            })
            .collect()
    }

    #[test]
    fn creates_deletes_or_rests() {
        assert_eq!(plan(3, pods(1), &[]), Plan::Create(2));
        assert_eq!(plan(3, pods(3), &[]), Plan::Nothing);
        assert_eq!(plan(2000, pods(0), &[]), Plan::Create(500));
        match plan(1, pods(3), &[]) {
            Plan::Delete(pods) => assert_eq!(pods.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn batches_double() {
        assert_eq!(batches(0), Vec::<usize>::new());
        assert_eq!(batches(1), [1]);
        assert_eq!(batches(10), [1, 2, 4, 3]);
    }

    #[test]
    fn status_counts() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 3},
            "spec": {"replicas": 4, "minReadySeconds": 10, "selector": {}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
        }))
        .expect("a set");
        let pod = |phase: &str, ready_at: Option<&str>, deleted: bool, label: &str| {
            let mut value = json!({
                "metadata": {"name": "p", "labels": {"app": label}}, "spec": {"containers": []},
                "status": {"phase": phase, "conditions": []},
            });
            if let Some(at) = ready_at {
                value["status"]["conditions"] =
                    json!([{"type": "Ready", "status": "True", "lastTransitionTime": at}]);
            }
            if deleted {
                value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            Arc::new(serde_json::from_value::<Pod>(value).expect("a pod"))
        };
        let pods = [
            pod("Running", Some("2026-01-01T00:00:00Z"), false, "web"),
            pod("Running", Some("2026-01-01T00:00:55Z"), false, "web"),
            pod("Pending", None, false, "other"),
            pod("Running", None, true, "web"),
            pod("Failed", None, false, "web"),
        ];
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let (status, soonest) = status(&set, &pods, Some(("FailedCreate", "no".into())), now);
        assert_eq!(
            (status.replicas, status.fully_labeled_replicas),
            (3, Some(2))
        );
        assert_eq!(
            (status.ready_replicas, status.available_replicas),
            (Some(2), Some(1))
        );
        assert_eq!(
            (status.terminating_replicas, status.observed_generation),
            (Some(1), Some(3))
        );
        assert_eq!(soonest, Some(SignedDuration::from_secs(5)));
        assert_eq!(status.conditions.map(|all| all.len()), Some(1));
    }
}

//! A deployment's status over its ReplicaSets: counts, Available, Progressing, ReplicaFailure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::strategy::{Strategy, replicas};
use crate::events::whole_seconds;
use crate::key::name_of;

pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
/// Reason of a rollout that is over.
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub type Conditions = Vec<DeploymentCondition>;

pub fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    let now = Some(Time(whole_seconds(now)));
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: now.clone(),
        last_transition_time: now,
    }
}

pub fn find<'a>(
    conditions: &'a [DeploymentCondition],
    kind: &str,
) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Nothing changes while status and reason stay; the transition's time is that of the status.
pub fn set(conditions: &mut Conditions, mut new: DeploymentCondition) {
    if let Some(old) = find(conditions, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(conditions, &new.type_.clone());
    conditions.push(new);
}

pub fn remove(conditions: &mut Conditions, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

fn sum(sets: &[&ReplicaSet], count: impl Fn(&ReplicaSet) -> Option<i32>) -> i32 {
    sets.iter().filter_map(|set| count(set)).sum()
}

pub fn spec_replicas(set: &ReplicaSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(0)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// Counts, and the Available condition.
pub fn calculate(
    deployment: &Deployment,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    conditions: Conditions,
    now: Timestamp,
) -> DeploymentStatus {
    let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let total_available = sum(sets, |set| Some(available(set)));
    let wanted = sum(sets, |set| Some(spec_replicas(set)));
    let mut conditions = conditions;
    let enough =
        total_available >= replicas(deployment) - Strategy::of(deployment).max_unavailable();
    set(
        &mut conditions,
        match enough {
            true => condition(
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".into(),
                now,
            ),
            false => condition(
                AVAILABLE,
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.".into(),
                now,
            ),
        },
    );
    let some = |count: i32| (count != 0).then_some(count);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(sets, |set| Some(status(set).replicas))),
        updated_replicas: new.and_then(|set| some(status(set).replicas)),
        ready_replicas: some(sum(sets, |set| status(set).ready_replicas)),
        available_replicas: some(total_available),
        unavailable_replicas: some((wanted - total_available).max(0)),
        terminating_replicas: Some(sum(sets, |set| status(set).terminating_replicas)),
        collision_count: deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: Some(conditions),
    }
}

fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    // The largest number stands for "never".
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(seconds.into()))
}

pub fn has_deadline(deployment: &Deployment) -> bool {
    deadline(deployment).is_some()
}

pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    all(status.updated_replicas)
        && all(status.replicas)
        && all(status.available_replicas)
        && status.observed_generation.unwrap_or(0) >= deployment.metadata.generation.unwrap_or(0)
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let outdated =
        |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// What a rollout adds to the calculated status.
pub fn progress(
    deployment: &Deployment,
    status: &mut DeploymentStatus,
    sets: &[&ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    if !has_deadline(deployment) {
        remove(&mut conditions, PROGRESSING);
    }
    let current = find(&conditions, PROGRESSING).cloned();
    let was_complete = status.replicas == status.updated_replicas
        && current
            .as_ref()
            .is_some_and(|current| current.reason.as_deref() == Some(COMPLETE));
    if has_deadline(deployment) && !was_complete {
        let subject = match new {
            Some(set) => format!("ReplicaSet {:?}", name_of(set)),
            None => format!("Deployment {:?}", name_of(deployment)),
        };
        let old = deployment.status.clone().unwrap_or_default();
        if is_complete(deployment, status) {
            let message = format!("{subject} has successfully progressed.");
            set(
                &mut conditions,
                condition(PROGRESSING, "True", COMPLETE, message, now),
            );
        } else if is_progressing(&old, status) {
            let mut moved = condition(
                PROGRESSING,
                "True",
                "ReplicaSetUpdated",
                format!("{subject} is progressing."),
                now,
            );
            if let Some(current) = current.filter(|current| current.status == "True") {
                moved.last_transition_time = current.last_transition_time;
            }
            // Even with the same reason: the time of the update is what the deadline counts from.
            remove(&mut conditions, PROGRESSING);
            conditions.push(moved);
        } else if has_timed_out(deployment, current.as_ref(), now) {
            let message = format!("{subject} has timed out progressing.");
            set(
                &mut conditions,
                condition(PROGRESSING, "False", TIMED_OUT, message, now),
            );
        }
    }
    match failure(sets, new) {
        Some((reason, message)) => set(
            &mut conditions,
            condition(FAILURE, "True", &reason, message, now),
        ),
        None => remove(&mut conditions, FAILURE),
    }
    status.conditions = Some(conditions);
}

fn has_timed_out(
    deployment: &Deployment,
    current: Option<&DeploymentCondition>,
    now: Timestamp,
) -> bool {
    match current.and_then(|current| Some((current, current.reason.as_deref()?))) {
        None | Some((_, COMPLETE)) => false,
        Some((_, TIMED_OUT)) => true,
        Some((current, _)) => match (&current.last_update_time, deadline(deployment)) {
            (Some(since), Some(deadline)) => now.duration_since(since.0) > deadline,
            _ => false,
        },
    }
}

/// The new set's failure to create pods, or any other's.
fn failure(sets: &[&ReplicaSet], new: Option<&ReplicaSet>) -> Option<(String, String)> {
    let mut ordered: Vec<&ReplicaSet> = new.into_iter().collect();
    ordered.extend(sets);
    ordered.into_iter().find_map(|set| {
        let conditions = set.status.as_ref()?.conditions.as_deref()?;
        let failure = conditions
            .iter()
            .find(|condition| condition.type_ == FAILURE)?;
        Some((
            failure.reason.clone().unwrap_or_default(),
            failure.message.clone().unwrap_or_default(),
        ))
    })
}

/// When a rollout that stands still will have done so for too long.
pub fn until_deadline(
    deployment: &Deployment,
    status: &DeploymentStatus,
    now: Timestamp,
) -> Option<SignedDuration> {
    let current = find(
        status.conditions.as_deref().unwrap_or_default(),
        PROGRESSING,
    )?;
    if is_complete(deployment, status)
        || current
            .reason
            .as_deref()
            .is_some_and(|reason| reason == TIMED_OUT || reason == COMPLETE)
    {
        return None;
    }
    let since = current.last_update_time.as_ref()?.0;
    let left = deadline(deployment)? - now.duration_since(since);
    Some(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1))
}

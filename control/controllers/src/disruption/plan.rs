//! A budget's status out of what is there. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use vetch_api::time::later;

use crate::deployment::strategy::rounded_up;
use crate::events::whole_seconds;
use crate::key::{is_deleted, name_of};
use crate::pod::{delay, is_ready};

/// An eviction that led to no deletion is forgotten after this (kube-controller-manager's DeletionTimeout).
const FORGOTTEN: SignedDuration = SignedDuration::from_mins(2);

/// The uid of who wants pods, and how many.
pub type Expected = (String, i32);

/// The status, and when to look again.
pub fn observe(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &dyn Fn(&Pod) -> Result<Option<Expected>, String>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    let (total, desired) = match numbers(budget, pods, expected) {
        Ok(numbers) => numbers,
        // What cannot be counted is not disrupted.
        Err(why) => {
            let mut status = PodDisruptionBudgetStatus {
                disruptions_allowed: Some(0),
                ..before.clone()
            };
            let told = ("False", "SyncFailed", why.as_str());
            status.conditions = Some(conditions(&before, told, before.observed_generation, now));
            return (status, None);
        }
    };
    let disrupted: BTreeMap<String, Time> = before
        .disrupted_pods
        .iter()
        .flatten()
        .filter(|(name, at)| {
            let there = pods
                .iter()
                .any(|pod| name_of(pod.as_ref()) == name.as_str() && !is_deleted(pod.as_ref()));
            there && later(at.0, FORGOTTEN) > now
        })
        .map(|(name, at)| (name.clone(), at.clone()))
        .collect();
    let healthy = pods
        .iter()
        .filter(|pod| {
            is_ready(pod)
                && !is_deleted(pod.as_ref())
                && !disrupted.contains_key(name_of(pod.as_ref()))
        })
        .count();
    let healthy = i32::try_from(healthy).unwrap_or(i32::MAX);
    let allowed = match total > 0 {
        true => (healthy - desired).max(0),
        false => 0,
    };
    let told = match allowed > 0 {
        true => ("True", "SufficientPods", ""),
        false => ("False", "InsufficientPods", ""),
    };
    let next = disrupted.values().map(|at| later(at.0, FORGOTTEN)).min();
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions(&before, told, generation, now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(total),
        observed_generation: generation,
    };
    (status, next.map(|next| delay(next.duration_since(now))))
}

/// How many pods there should be, and how many of them healthy.
fn numbers(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &dyn Fn(&Pod) -> Result<Option<Expected>, String>,
) -> Result<(i32, i32), String> {
    let Some(spec) = &budget.spec else {
        return Ok((0, 0));
    };
    let count = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let scale = || -> Result<i32, String> {
        let mut wanted: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            wanted.extend(expected(pod)?);
        }
        Ok(wanted
            .values()
            .fold(0, |sum: i32, own| sum.saturating_add(*own)))
    };
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => {
            let total = scale()?;
            Ok((total, (total - rounded_up(most, total)).max(0)))
        }
        // Of a number nobody need know how many there should be.
        (None, Some(IntOrString::Int(least))) => Ok((count, *least)),
        (None, Some(share)) => {
            let total = scale()?;
            Ok((total, rounded_up(share, total)))
        }
        (None, None) => Ok((0, 0)),
    }
}

fn conditions(
    before: &PodDisruptionBudgetStatus,
    (status, reason, message): (&str, &str, &str),
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    const TYPE: &str = "DisruptionAllowed";
    let mut all = before.conditions.clone().unwrap_or_default();
    let known = all
        .iter()
        .find(|own| own.type_ == TYPE && own.status == status);
    let since = known.map_or(Time(whole_seconds(now)), |own| {
        own.last_transition_time.clone()
    });
    let condition = Condition {
        type_: TYPE.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    };
    match all.iter_mut().find(|own| own.type_ == TYPE) {
        Some(own) => *own = condition,
        None => all.push(condition),
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let ready = if ready { "True" } else { "False" };
        let pod = json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let budget =
            json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status});
        serde_json::from_value(budget).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_healthy_beyond_the_need_may_go() {
        let owned = |_: &Pod| Ok(Some(("set".to_owned(), 4)));
        let alone = |_: &Pod| Ok(None);
        let foreign = |_: &Pod| Err("found no controllers".to_owned());
        type Owner<'a> = &'a dyn Fn(&Pod) -> Result<Option<Expected>, String>;
        let pods = [
            pod("a", true),
            pod("b", true),
            pod("c", true),
            pod("d", false),
        ];
        // (spec, owner) -> expected, desired, healthy, allowed
        let table: [(Value, Owner<'_>, [i32; 4]); 9] = [
            (json!({"minAvailable": 2}), &alone, [4, 2, 3, 1]),
            (json!({"minAvailable": 3}), &alone, [4, 3, 3, 0]),
            (json!({"minAvailable": 9}), &foreign, [4, 9, 3, 0]),
            (json!({"minAvailable": "50%"}), &owned, [4, 2, 3, 1]),
            (json!({"minAvailable": "51%"}), &owned, [4, 3, 3, 0]),
            (json!({"maxUnavailable": 1}), &owned, [4, 3, 3, 0]),
            (json!({"maxUnavailable": "30%"}), &owned, [4, 2, 3, 1]),
            (json!({"maxUnavailable": 1}), &alone, [0, 0, 3, 0]),
            (json!({}), &owned, [0, 0, 3, 0]),
        ];
        for (spec, owner, [expected, desired, healthy, allowed]) in table {
            let (status, again) = observe(&budget(spec.clone(), json!({})), &pods, owner, now());
            let told = [
                status.expected_pods,
                status.desired_healthy,
                status.current_healthy,
                status.disruptions_allowed,
            ];
            assert_eq!(
                told,
                [expected, desired, healthy, allowed].map(Some),
                "{spec}"
            );
            assert_eq!((status.observed_generation, again), (Some(3), None));
            let condition = &status.conditions.unwrap()[0];
            assert_eq!(condition.status == "True", allowed > 0, "{spec}");
        }
        let lost = budget(
            json!({"maxUnavailable": 1}),
            json!({"disruptionsAllowed": 2, "observedGeneration": 2}),
        );
        let (status, _) = observe(&lost, &pods, &foreign, now());
        assert_eq!(
            (status.disruptions_allowed, status.observed_generation),
            (Some(0), Some(2))
        );
        assert_eq!(status.conditions.unwrap()[0].reason, "SyncFailed");
    }

    #[test]
    fn an_eviction_counts_until_its_pod_is_gone_or_was_not_deleted() {
        let alone = |_: &Pod| Ok(None);
        let pods = [pod("a", true), pod("b", true)];
        let disrupted = json!({"disruptedPods": {"a": "2026-01-01T00:09:00Z", "b": "2026-01-01T00:07:00Z",
            "gone": "2026-01-01T00:09:59Z"}});
        let (status, again) = observe(
            &budget(json!({"minAvailable": 0}), disrupted),
            &pods,
            &alone,
            now(),
        );
        assert_eq!(
            status.current_healthy,
            Some(1),
            "a is as good as gone, b was not deleted"
        );
        let left: Vec<String> = status.disrupted_pods.clone().unwrap().into_keys().collect();
        assert_eq!(left, ["a"]);
        assert!(again.is_some_and(|again| again.as_secs() == 60));
        // Nothing new is no write.
        let mut same = budget(json!({"minAvailable": 0}), json!({}));
        same.status = Some(status.clone());
        assert_eq!(observe(&same, &pods, &alone, now()).0, status);
    }

    #[test]
    fn an_eviction_of_the_last_day_there_is_counts() {
        let disrupted = json!({"disruptedPods": {"a": "9999-12-30T22:00:00Z"}});
        let budget = budget(json!({"minAvailable": 0}), disrupted);
        let (status, again) = observe(&budget, &[pod("a", true)], &|_| Ok(None), now());
        assert_eq!(status.current_healthy, Some(0));
        assert!(again.is_some());
    }
}

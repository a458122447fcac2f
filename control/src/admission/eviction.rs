//! pods/eviction and disruption budgets: an eviction takes one of the disruptions its budget allows, in the same
//! transaction as the pod's deletion.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use vetch_api::decode::format_time;
use vetch_api::kinds::selector::matches;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};
use vetch_store::{Object, Precondition, Write};

use super::{list, text};

/// More evictions that the disruption controller has not seen are too many.
const MOST_DISRUPTED: usize = 2000;
const VIOLATES: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

pub(super) struct DisruptionBudgets;

impl Admission for DisruptionBudgets {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        _: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            let resource = attributes.resource;
            let evicts = attributes.operation == Operation::Create
                && (resource.group, resource.plural) == ("", "pods")
                && attributes.subresource == "eviction";
            let Some(pod) = attributes.old.filter(|pod| evicts && !is_nobodys(pod)) else {
                return Ok(Effects::default());
            };
            let namespace = attributes.namespace.unwrap_or_default();
            let budgets = server.all("policy", "poddisruptionbudgets", namespace).await?;
            let own: Vec<&Arc<Object>> = budgets.iter().filter(|it| covers(&it.value, pod)).collect();
            let [budget] = own[..] else {
                return match own.is_empty() {
                    true => Ok(Effects::default()),
                    false => Err(Status::new(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "",
                        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                    )),
                };
            };
            let decided = decide(pod, &budget.value, Timestamp::now());
            match decided.map_err(|refusal| refusal.status(server, &budget.value))? {
                None => Ok(Effects::default()),
                Some(_) if attributes.dry_run => Ok(Effects::default()),
                Some(taken) => Ok(Effects {
                    conditions: vec![Precondition::At(budget.key.clone(), budget.revision)],
                    writes: vec![Write::Put(budget.key.clone(), taken)],
                }),
            }
        }
        .boxed()
    }
}

/// Its end disrupts nothing: it has ended, has not begun, or is ending.
fn is_nobodys(pod: &Value) -> bool {
    matches!(
        text(pod, "/status/phase"),
        "Succeeded" | "Failed" | "Pending"
    ) || !pod["metadata"]["deletionTimestamp"].is_null()
}

/// An empty selector selects all pods of the namespace (policy/v1), none at all no pod.
fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = &budget["spec"]["selector"];
    selector.is_object() && matches(selector, pod.pointer("/metadata/labels"))
}

fn is_ready(pod: &Value) -> bool {
    list(pod, "/status/conditions")
        .iter()
        .any(|own| own["type"] == "Ready" && own["status"] == "True")
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The controller has not seen the newest budget.
    Behind,
    /// None is left.
    Spent,
    Forbidden(&'static str),
}

impl Refusal {
    fn status(&self, server: &Server, budget: &Value) -> Status {
        let name = text(budget, "/metadata/name");
        let number = |at: &str| budget.pointer(at).and_then(Value::as_i64).unwrap_or(0);
        let (seconds, message) = match self {
            Refusal::Behind => (
                10,
                format!("The disruption budget {name} is still being processed by the server."),
            ),
            Refusal::Spent => (
                0,
                format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number("/status/desiredHealthy"),
                    number("/status/currentHealthy")
                ),
            ),
            Refusal::Forbidden(why) => {
                return match server.row("policy", "poddisruptionbudgets") {
                    Ok(row) => Status::forbidden(row, name, why),
                    Err(status) => status,
                };
            }
        };
        let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": message}]});
        if seconds > 0 {
            details["retryAfterSeconds"] = seconds.into();
        }
        Status {
            details: Some(details),
            ..Status::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", VIOLATES)
        }
    }
}

/// The budget with one disruption less; None: it is not touched.
fn decide(pod: &Value, budget: &Value, now: Timestamp) -> Result<Option<Value>, Refusal> {
    let number = |at: &str| budget.pointer(at).and_then(Value::as_i64).unwrap_or(0);
    if !is_ready(pod) {
        // One that does not count as healthy costs nothing, unless what is healthy does not suffice.
        let (current, desired) = (
            number("/status/currentHealthy"),
            number("/status/desiredHealthy"),
        );
        let always = text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
        if always || (current >= desired && desired > 0) {
            return Ok(None);
        }
    }
    if number("/status/observedGeneration") < number("/metadata/generation") {
        return Err(Refusal::Behind);
    }
    let allowed = number("/status/disruptionsAllowed");
    if allowed < 0 {
        return Err(Refusal::Forbidden("pdb disruptions allowed is negative"));
    }
    let disrupted = budget.pointer("/status/disruptedPods");
    if disrupted
        .and_then(Value::as_object)
        .is_some_and(|all| all.len() > MOST_DISRUPTED)
    {
        return Err(Refusal::Forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(Refusal::Spent);
    }
    let mut taken = budget.clone();
    let status = &mut taken["status"];
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][text(pod, "/metadata/name")] = format_time(now).into();
    if allowed == 1 {
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "DisruptionAllowed" && condition["status"] != "False" {
                condition["status"] = "False".into();
                condition["reason"] = "InsufficientPods".into();
                condition["lastTransitionTime"] = format_time(now).into();
            }
        }
    }
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ready: bool) -> Value {
        let ready = if ready { "True" } else { "False" };
        json!({"metadata": {"name": "p", "labels": {"app": "a"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}})
    }

    fn budget(allowed: i64, healthy: i64, desired: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "spec": {"selector": {"matchLabels": {"app": "a"}}},
            "status": {"observedGeneration": 2, "disruptionsAllowed": allowed, "currentHealthy": healthy,
                "desiredHealthy": desired, "expectedPods": 3,
                "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}]}})
    }

    #[test]
    fn an_eviction_takes_what_the_budget_allows() {
        let now = Timestamp::UNIX_EPOCH;
        let mut behind = budget(1, 3, 2);
        behind["metadata"]["generation"] = 3.into();
        let mut always = budget(0, 1, 2);
        always["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        let told = |ready: bool, budget: &Value| decide(&pod(ready), budget, now);
        assert_eq!(told(true, &budget(0, 2, 2)), Err(Refusal::Spent));
        assert_eq!(told(true, &behind), Err(Refusal::Behind));
        assert!(matches!(
            told(true, &budget(-1, 2, 2)),
            Err(Refusal::Forbidden(_))
        ));
        // Unhealthy ones.
        assert_eq!(told(false, &budget(0, 2, 2)), Ok(None));
        assert_eq!(told(false, &budget(0, 1, 2)), Err(Refusal::Spent));
        assert_eq!(told(false, &always), Ok(None));
        assert_eq!(told(true, &always), Err(Refusal::Spent));

        let first = told(true, &budget(2, 3, 1)).unwrap().unwrap();
        assert_eq!(first["status"]["disruptionsAllowed"], 1);
        assert_eq!(first["status"]["conditions"][0]["status"], "True");
        assert_eq!(
            first["status"]["disruptedPods"]["p"],
            "1970-01-01T00:00:00Z"
        );
        let last = told(true, &first).unwrap().unwrap();
        assert_eq!(last["status"]["disruptionsAllowed"], 0);
        assert_eq!(
            last["status"]["conditions"][0]["reason"],
            "InsufficientPods"
        );
        assert_eq!(told(true, &last), Err(Refusal::Spent));
    }

    #[test]
    fn budgets_cover_running_pods_of_theirs() {
        for (selector, covered) in [
            (json!({"matchLabels": {"app": "a"}}), true),
            (json!({"matchLabels": {"app": "b"}}), false),
            (json!({}), true),
            (Value::Null, false),
        ] {
            let budget = json!({"spec": {"selector": selector}});
            assert_eq!(covers(&budget, &pod(true)), covered, "{budget}");
        }
        assert!(!is_nobodys(&pod(true)));
        for change in [
            json!({"status": {"phase": "Pending"}}),
            json!({"status": {"phase": "Failed"}}),
            json!({"status": {"phase": "Running"}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ] {
            assert!(is_nobodys(&change), "{change}");
        }
    }
}

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget as Typed;
use serde_json::{Value, json};

use super::deployment::int_or_percent;
use super::selector;
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name, number};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

const GROUP: &str = "policy";
const KIND: &str = "PodDisruptionBudget";
const POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

pub const ROW: Resource = Resource {
    group: GROUP,
    kind: KIND,
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    storage_prefix: "poddisruptionbudgets",
    subresources: &[Subresource::status(GROUP, "v1", KIND)],
    decode: typed::<Typed>,
    // Until the controller has looked no disruption is allowed.
    prepare_create: |budget| {
        meta::first_generation(budget);
        if let Some(object) = budget.as_object_mut() {
            let none = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
            object.insert("status".into(), none);
        }
    },
    prepare_update: meta::next_generation,
    validate_create: |budget| {
        let mut errors = meta::validate(budget, true, names::subdomain);
        validate_spec(budget, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_spec(new, &mut errors);
        errors
    },
    validate_status: |new, old| {
        let mut errors = meta::validate_update(new, old);
        let path = Path::new("status");
        for field in [
            "disruptionsAllowed",
            "currentHealthy",
            "desiredHealthy",
            "expectedPods",
        ] {
            let value = new.i64_at(&format!("/status/{field}"));
            if value < 0 {
                errors.push(
                    path.child(field)
                        .invalid(value, "must be greater than or equal to 0"),
                );
            }
        }
        errors
    },
    columns: COLUMNS,
    cells,
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    types: register::<Typed>,
    ..BASE
};

fn validate_spec(budget: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let at = |key: &str| budget.pointer(&format!("/spec/{key}"));
    if at("minAvailable").is_some() && at("maxUnavailable").is_some() {
        let spec = budget.get("spec").cloned().unwrap_or_default();
        errors.push(path.invalid(spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let Some(value) = at(key) else { continue };
        let found = int_or_percent(value, &path.child(key), errors);
        if value.is_string() && found.is_some_and(|percent| percent > 100) {
            errors.push(
                path.child(key)
                    .invalid(value.clone(), "must not be greater than 100%"),
            );
        }
    }
    if let Some(policy) = at("unhealthyPodEvictionPolicy").and_then(Value::as_str)
        && !POLICIES.contains(&policy)
    {
        errors.push(
            path.child("unhealthyPodEvictionPolicy")
                .not_supported(policy, POLICIES),
        );
    }
    if let Some(own) = at("selector") {
        errors.extend(selector::validate(own, &path.child("selector")));
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Min Available",
        "The minimum number of pods that must be available.",
    ),
    column(
        "Max Unavailable",
        "The maximum number of pods that may be unavailable.",
    ),
    number(
        "Allowed Disruptions",
        "Calculated number of pods that may be disrupted at this time.",
    ),
    AGE,
];

fn cells(budget: &Value, now: Timestamp) -> Vec<Value> {
    let shown = |key: &str| -> Value {
        match budget.pointer(&format!("/spec/{key}")) {
            None => "N/A".into(),
            Some(Value::String(text)) => text.as_str().into(),
            Some(number) => number.to_string().into(),
        }
    };
    vec![
        name(budget),
        shown("minAvailable"),
        shown("maxUnavailable"),
        budget.i64_at("/status/disruptionsAllowed").into(),
        age(budget, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_checked() {
        let both = "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set";
        for (spec, expected) in [
            (json!({}), vec![]),
            (
                json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}),
                vec![],
            ),
            (json!({"minAvailable": 1, "maxUnavailable": 1}), vec![both]),
            (
                json!({"minAvailable": -1}),
                vec!["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({"maxUnavailable": "101%"}),
                vec!["spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"],
            ),
            (
                json!({"unhealthyPodEvictionPolicy": "Never"}),
                vec![
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ] {
            let budget = json!({"metadata": {"name": "b", "namespace": "n"}, "spec": spec});
            let errors: Vec<String> = (ROW.validate_create)(&budget)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(errors, expected, "{spec}");
        }
    }

    #[test]
    fn a_new_budget_allows_nothing() {
        let mut budget = json!({"metadata": {"name": "b", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 7}});
        (ROW.prepare_create)(&mut budget);
        assert_eq!(budget["status"]["disruptionsAllowed"], 0);
        assert_eq!(budget["metadata"]["generation"], 1);
        let cells = cells(&budget, Timestamp::from_second(60).unwrap());
        assert_eq!(
            cells,
            [
                json!("b"),
                json!("50%"),
                json!("N/A"),
                json!(0),
                json!("60s")
            ]
        );
    }
}

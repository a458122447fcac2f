//! Validation of what a pod asks of nodes: tolerations, affinity, spreading.

use serde_json::Value;

use crate::field::Path;
use crate::kinds::selector;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

pub(crate) fn tolerations(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, toleration) in spec.list_at("/tolerations").iter().enumerate() {
        let at = path.index(i);
        let (key, operator, value, effect) = (
            toleration.str_at("/key"),
            toleration.str_at("/operator"),
            toleration.str_at("/value"),
            toleration.str_at("/effect"),
        );
        if !key.is_empty() {
            errors.extend(
                names::qualified(key)
                    .iter()
                    .map(|m| at.child("key").invalid(key, m)),
            );
        }
        if key.is_empty() && operator != "Exists" {
            errors.push(
                at.child("operator")
                    .invalid(operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\""),
            );
        }
        if toleration.has("/tolerationSeconds") && effect != "NoExecute" {
            errors.push(at.child("effect").invalid(
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "" | "Equal" => {
                errors.extend(
                    names::label_value(value)
                        .iter()
                        .map(|m| at.child("operator").invalid(value, m)),
                );
            }
            "Exists" if !value.is_empty() => {
                errors.push(
                    at.child("operator")
                        .invalid(value, "value must be empty when `operator` is 'Exists'"),
                );
            }
            "Exists" => {}
            _ => errors.push(
                at.child("operator")
                    .not_supported(operator, &["Equal", "Exists"]),
            ),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(at.child("effect").not_supported(effect, EFFECTS));
        }
    }
}

pub(crate) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn affinity(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(affinity) = spec.get("affinity") else {
        return;
    };

    if let Some(required) = affinity.pointer(&format!("/nodeAffinity/{REQUIRED}")) {
        let at = path.child("nodeAffinity").child(REQUIRED);
        node_selector(required, &at, errors);
    }
    for (i, preferred) in affinity
        .list_at(&format!("/nodeAffinity/{PREFERRED}"))
        .iter()
        .enumerate()
    {
        let at = path.child("nodeAffinity").child(PREFERRED).index(i);
        weight(preferred, &at, errors);
        if let Some(term) = preferred.get("preference") {
            node_term(term, &at.child("preference"), errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (i, term) in affinity
            .list_at(&format!("/{kind}/{REQUIRED}"))
            .iter()
            .enumerate()
        {
            pod_term(term, &path.child(kind).child(REQUIRED).index(i), errors);
        }
        for (i, preferred) in affinity
            .list_at(&format!("/{kind}/{PREFERRED}"))
            .iter()
            .enumerate()
        {
            let at = path.child(kind).child(PREFERRED).index(i);
            weight(preferred, &at, errors);
            if let Some(term) = preferred.get("podAffinityTerm") {
                pod_term(term, &at.child("podAffinityTerm"), errors);
            }
        }
    }
}

pub(super) fn spread(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, constraint) in spec
        .list_at("/topologySpreadConstraints")
        .iter()
        .enumerate()
    {
        let at = path.index(i);
        let skew = constraint.i64_at("/maxSkew");
        if skew <= 0 {
            errors.push(
                at.child("maxSkew")
                    .invalid(skew, "must be greater than zero"),
            );
        }
        if constraint.str_at("/topologyKey").is_empty() {
            errors.push(at.child("topologyKey").required("can not be empty"));
        }
        let action = constraint.str_at("/whenUnsatisfiable");
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(
                at.child("whenUnsatisfiable")
                    .not_supported(action, &["DoNotSchedule", "ScheduleAnyway"]),
            );
        }
        if let Some(selector) = constraint.get("labelSelector") {
            errors.extend(selector::validate(selector, &at.child("labelSelector")));
        }
    }
}

/// Terms of labels that a node has, of a pod or a volume.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.child("nodeSelectorTerms");
    let terms = selector.list_at("/nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(at.required("must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, &at.index(i), errors);
    }
}

fn weight(preferred: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let weight = preferred.i64_at("/weight");
    if !(1..=100).contains(&weight) {
        errors.push(
            path.child("weight")
                .invalid(weight, "must be in the range 1-100"),
        );
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, expression) in term.list_at("/matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let (key, operator) = (expression.str_at("/key"), expression.str_at("/operator"));
        let values = expression.list_at("/values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(
                    at.child("values")
                        .required("must be specified when `operator` is 'In' or 'NotIn'"),
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(at.child("values").forbidden(
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors
                    .push(at.child("values").required(
                        "must be specified single value when `operator` is 'Lt' or 'Gt'",
                    ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(
                at.child("operator")
                    .invalid(operator, "not a valid selector operator"),
            ),
        }
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| at.child("key").invalid(key, m)),
        );
    }
    for (i, field) in term.list_at("/matchFields").iter().enumerate() {
        let key = field.str_at("/key");
        if key != "metadata.name" {
            let at = path.child("matchFields").index(i).child("key");
            errors.push(at.invalid(key, "not a valid field selector key"));
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let key = term.str_at("/topologyKey");
    let at = path.child("topologyKey");
    if key.is_empty() {
        errors.push(at.required("can not be empty"));
    } else {
        errors.extend(names::qualified(key).iter().map(|m| at.invalid(key, m)));
    }
    for child in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.get(child) {
            errors.extend(selector::validate(selector, &path.child(child)));
        }
    }
}

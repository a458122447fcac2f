//! What Deployments and ReplicaSets share: a selector, a count and a pod template.

use serde_json::Value;

use super::{pod, selector};
use crate::field::Path;
use crate::meta;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// Selector, replicas and template of `spec`; `subject` words what an empty selector would do.
pub(super) fn validate_spec(workload: &Value, empty_selector: &str, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = workload.get("spec").unwrap_or(&Value::Null);
    non_negative(spec, &path, "replicas", errors);
    non_negative(spec, &path, "minReadySeconds", errors);

    let at = path.child("selector");
    match spec.get("selector") {
        None => errors.push(at.required("")),
        Some(found) => {
            errors.extend(selector::validate(found, &at));
            if selector::is_empty(found) {
                errors.push(at.invalid(found.clone(), empty_selector));
            }
        }
    }
    let template = spec.get("template").unwrap_or(&Value::Null);
    let at = path.child("template");
    let labels = template.pointer("/metadata/labels");
    if let Some(found) = spec.get("selector")
        && !selector::is_empty(found)
        && !selector::matches(found, labels)
    {
        let shown = labels.cloned().unwrap_or(Value::Null);
        errors.push(
            at.child("metadata")
                .child("labels")
                .invalid(shown, "`selector` does not match template `labels`"),
        );
    }
    let meta_path = at.child("metadata");
    errors.extend(meta::validate_labels(labels, &meta_path.child("labels")));
    errors.extend(meta::validate_annotations(
        template.pointer("/metadata/annotations"),
        &meta_path.child("annotations"),
    ));
    let null = Value::Null;
    let pod_spec = template.get("spec").unwrap_or(&null);
    let at = at.child("spec");
    errors.extend(pod::spec::validate(pod_spec, &at, true));
    let policy = pod_spec.str_at("/restartPolicy");
    if !matches!(policy, "" | "Always") {
        errors.push(at.child("restartPolicy").not_supported(policy, &["Always"]));
    }
    if pod_spec.has("/activeDeadlineSeconds") {
        errors.push(
            at.child("activeDeadlineSeconds")
                .forbidden("activeDeadlineSeconds in ReplicaSet is not Supported"),
        );
    }
}

pub(super) fn immutable_selector(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new.pointer("/spec/selector") != old.pointer("/spec/selector") {
        let shown = new
            .pointer("/spec/selector")
            .cloned()
            .unwrap_or(Value::Null);
        errors.push(
            Path::new("spec")
                .child("selector")
                .invalid(shown, "field is immutable"),
        );
    }
}

pub(super) fn non_negative(holder: &Value, path: &Path, key: &str, errors: &mut Vec<FieldError>) {
    let value = holder.i64_at(&format!("/{key}"));
    if value < 0 {
        errors.push(
            path.child(key)
                .invalid(value, "must be greater than or equal to 0"),
        );
    }
}

/// A status update's counts.
pub(super) fn validate_status(new: &Value, old: &Value, counts: &[&str]) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let status = new.get("status").unwrap_or(&Value::Null);
    for count in counts {
        non_negative(status, &Path::new("status"), count, &mut errors);
    }
    let path = Path::new("status");
    for count in counts.iter().filter(|c| {
        !matches!(
            **c,
            "replicas" | "observedGeneration" | "collisionCount" | "terminatingReplicas"
        )
    }) {
        let value = status.i64_at(&format!("/{count}"));
        if value > status.i64_at("/replicas") {
            errors.push(
                path.child(count)
                    .invalid(value, "cannot be greater than status.replicas"),
            );
        }
    }
    if status.i64_at("/availableReplicas") > status.i64_at("/readyReplicas") {
        let value = status.i64_at("/availableReplicas");
        errors.push(
            path.child("availableReplicas")
                .invalid(value, "cannot be greater than readyReplicas"),
        );
    }
    errors
}

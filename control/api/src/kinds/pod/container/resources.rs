//! Resource requests and limits.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::whole;
use crate::field::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resource::FieldError;
use crate::value::ValueExt;

pub(super) fn validate(resources: Option<&Value>, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(resources) = resources {
        requirements(resources, path, resource_name, errors);
    }
}

/// Of the pod as a whole: only what a pod can share out.
pub(in super::super) fn validate_pod(resources: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    requirements(resources, path, shared_name, errors);
}

fn requirements(
    resources: &Value,
    path: &Path,
    check_name: fn(&str, &Path, &mut Vec<FieldError>),
    errors: &mut Vec<FieldError>,
) {
    for list in ["limits", "requests"] {
        for (name, value) in resources.map_at(&format!("/{list}")).into_iter().flatten() {
            let at = path.child(list).key(name);
            check_name(name, &at, errors);
            let Some(amount) = parsed(value) else {
                continue;
            };
            if amount.is_negative() {
                errors.push(at.invalid(amount.to_string(), "must be greater than or equal to 0"));
            }
            let whole = name.contains('/') || name.starts_with("hugepages-");
            if whole && !amount.is_integer() {
                errors.push(at.invalid(amount.to_string(), "must be an integer"));
            }
        }
    }
    for (name, value) in resources.map_at("/requests").into_iter().flatten() {
        let Some(request) = parsed(value) else {
            continue;
        };
        let limit = resources
            .map_at("/limits")
            .and_then(|l| l.get(name))
            .and_then(parsed);
        let overcommits = !name.contains('/') && !name.starts_with("hugepages-");
        match limit {
            Some(limit) if request != limit && !overcommits => {
                errors.push(path.child("requests").invalid(
                    request.to_string(),
                    &format!("must be equal to {name} limit of {limit}"),
                ))
            }
            Some(limit) if request > limit => errors.push(path.child("requests").invalid(
                request.to_string(),
                &format!("must be less than or equal to {name} limit of {limit}"),
            )),
            None if !overcommits => {
                errors.push(
                    path.child("limits")
                        .required("Limit must be set for non overcommitable resources"),
                );
            }
            _ => {}
        }
    }
    let names = || {
        let lists = ["/limits", "/requests"].into_iter();
        lists.flat_map(|list| resources.map_at(list).into_iter().flatten())
    };
    let huge = names().any(|(name, _)| name.starts_with("hugepages-"));
    if huge && !names().any(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        errors.push(path.forbidden("HugePages require cpu or memory"));
    }
}

/// What a change of a resource costs the container; in a pod that never restarts it can only be nothing.
pub(super) fn resize_policies(
    container: &Value,
    spec: &Value,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    let restarts = match container.str_at("/restartPolicy") {
        "" => spec.str_at("/restartPolicy"),
        own => own,
    };
    let mut seen = BTreeSet::new();
    for (i, policy) in container.list_at("/resizePolicy").iter().enumerate() {
        let name = policy.str_at("/resourceName");
        let wanted = policy.str_at("/restartPolicy");
        if !seen.insert(name) {
            errors.push(path.index(i).duplicate(name));
        }
        for (value, supported) in [
            (name, ["cpu", "memory"]),
            (wanted, ["NotRequired", "RestartContainer"]),
        ] {
            if value.is_empty() {
                errors.push(path.required(""));
            } else if !supported.contains(&value) {
                errors.push(path.not_supported(value, &supported));
            }
        }
        if restarts == "Never" && wanted != "NotRequired" {
            errors.push(path.invalid(
                wanted,
                "must be 'NotRequired' when `restartPolicy` is 'Never'",
            ));
        }
    }
}

fn resource_name(name: &str, path: &Path, errors: &mut Vec<FieldError>) {
    errors.extend(names::qualified(name).iter().map(|m| path.invalid(name, m)));
    let standard =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(path.invalid(name, "must be a standard resource for containers"));
    }
}

fn shared_name(name: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let wrong = names::qualified(name);
    if wrong.is_empty() && !whole::is_supported(name) {
        errors.push(path.not_supported(name, &["cpu", "hugepages-", "memory"]));
    }
    errors.extend(wrong.iter().map(|m| path.invalid(name, m)));
}

fn parsed(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

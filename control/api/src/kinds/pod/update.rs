//! What an update of a pod may change.

use serde_json::Value;

use super::container::restart::{may_restart_all, restarts};
use crate::field::Path;
use crate::kinds::pod::{annotations, spec};
use crate::meta;
use crate::resource::FieldError;
use crate::value::ValueExt;

const MAY_NOT: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

pub(super) fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(annotations::validate_update(new, old));
    let null = Value::Null;
    let (new_spec, old_spec) = (
        new.get("spec").unwrap_or(&null),
        old.get("spec").unwrap_or(&null),
    );
    let path = Path::new("spec");
    if new_spec == old_spec {
        return errors;
    }
    errors.extend(spec::validate(new_spec, &path, false));
    for list in ["containers", "initContainers"] {
        if new_spec.list_at(&format!("/{list}")).len()
            != old_spec.list_at(&format!("/{list}")).len()
        {
            errors.push(
                path.child(list)
                    .forbidden("pod updates may not add or remove containers"),
            );
            return errors;
        }
    }
    errors.extend(deadline(new_spec, old_spec, &path));
    errors.extend(tolerations(new_spec, old_spec, &path));
    errors.extend(gates(new_spec, old_spec, &path));

    // Put the old value back wherever a change is fine; nothing else may differ then.
    let mut munged = new_spec.clone();
    for list in ["containers", "initContainers"] {
        for (container, before) in munged
            .list_mut(list)
            .zip(old_spec.list_at(&format!("/{list}")))
        {
            container.copy_key(before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        munged.copy_key(old_spec, key);
    }
    if old_spec.i64_at("/terminationGracePeriodSeconds") < 0
        && new_spec.i64_at("/terminationGracePeriodSeconds") == 1
    {
        munged.copy_key(old_spec, "terminationGracePeriodSeconds");
    }
    if munged != *old_spec {
        errors.push(path.forbidden(&format!(
            "{MAY_NOT}{}",
            difference("PodSpec", old_spec, &munged)
        )));
    }
    errors
}

pub(super) fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let path = Path::new("status");
    for (key, spec_list) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
    ] {
        // Of a pod that never restarts, a container that ended stays ended, unless its own policy says
        // otherwise or all are restarted.
        let spec = new.get("spec").unwrap_or(&Value::Null);
        let policy = spec.str_at("/restartPolicy");
        if policy == "Always" || spec_list == "initContainers" || may_restart_all(spec) {
            continue;
        }
        for (i, status) in new.list_at(&format!("/status/{key}")).iter().enumerate() {
            let name = status.str_at("/name");
            let before = old
                .list_at(&format!("/status/{key}"))
                .iter()
                .find(|s| s.str_at("/name") == name);
            let Some(before) = before.filter(|b| b.has("/state/terminated")) else {
                continue;
            };
            let code = before.i64_at("/state/terminated/exitCode");
            let containers = spec.list_at(&format!("/{spec_list}"));
            let own = containers.iter().find(|c| c.str_at("/name") == name);
            let again = own.is_some_and(|own| restarts(own, spec, code));
            if status.has("/state/terminated") || (policy == "OnFailure" && code != 0) || again {
                continue;
            }
            errors.push(
                path.child(key)
                    .index(i)
                    .child("state")
                    .forbidden("may not be transitioned to non-terminated state"),
            );
        }
    }
    errors
}

fn deadline(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let at = path.child("activeDeadlineSeconds");
    match (
        new.opt_i64("/activeDeadlineSeconds"),
        old.opt_i64("/activeDeadlineSeconds"),
    ) {
        (Some(new), Some(old)) if new > old => {
            vec![at.invalid(new, "must be less than or equal to previous value")]
        }
        (None, Some(_)) => {
            vec![at.invalid(
                Value::Null,
                "must not update from a positive integer to nil value",
            )]
        }
        _ => Vec::new(),
    }
}

fn tolerations(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let (now, before) = (new.list_at("/tolerations"), old.list_at("/tolerations"));
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|k| a.get(k) == b.get(k))
    };
    let kept = before.iter().all(|old| {
        now.iter().any(|new| {
            new == old
                || (same(new, old)
                    && new.has("/tolerationSeconds")
                    && old.str_at("/effect") == "NoExecute")
        })
    });
    if kept {
        Vec::new()
    } else {
        vec![
            path.child("tolerations")
                .forbidden("existing toleration can not be modified except its tolerationSeconds"),
        ]
    }
}

fn gates(new: &Value, old: &Value, path: &Path) -> Vec<FieldError> {
    let before = old.list_at("/schedulingGates");
    new.list_at("/schedulingGates")
        .iter()
        .filter(|gate| !before.contains(gate))
        .map(|gate| {
            path.child("schedulingGates").forbidden(&format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.str_at("/name")
            ))
        })
        .collect()
}

/// The first-level fields that differ, one a line.
pub(super) fn difference(kind: &str, old: &Value, new: &Value) -> String {
    let keys: std::collections::BTreeSet<&String> = [old, new]
        .iter()
        .filter_map(|v| v.as_object())
        .flat_map(|o| o.keys())
        .collect();
    let shown = |v: Option<&Value>| v.map_or("null".to_string(), ToString::to_string);
    let mut out = format!("  core.{kind}{{\n");
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before != after {
            out.push_str(&format!(
                "- \t{key}: {},\n+ \t{key}: {},\n",
                shown(before),
                shown(after)
            ));
        }
    }
    out.push_str("  }\n");
    out
}

//! Ephemeral containers: less than others may be said of them, and more depends on their names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::common;
use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// Nobody shall count on them for what a pod does: ports, probes, hooks, resources and restarts are not among these.
const ALLOWED: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "securityContext",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];
const MAY_NOT: &str = "cannot be set for an Ephemeral Container";

/// `others`: the names of the pod's regular and init containers.
pub(super) fn validate(
    spec: &Value,
    path: &Path,
    volumes: &BTreeSet<&str>,
    others: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let mut names = others.clone();
    for (i, container) in spec.list_at("/ephemeralContainers").iter().enumerate() {
        let at = path.child("ephemeralContainers").index(i);
        common(container, &at, volumes, errors);
        let name = container.str_at("/name");
        if !name.is_empty() && !names.insert(name) {
            errors.push(at.child("name").duplicate(name));
        }
        let target = container.str_at("/targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(at.child("targetContainerName").not_found(target));
        }
        for (field, value) in container.as_object().into_iter().flatten() {
            if !ALLOWED.contains(&field.as_str()) && is_set(field, value) {
                errors.push(at.child(field).forbidden(MAY_NOT));
            }
        }
        for (i, mount) in container.list_at("/volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.str_at(&format!("/{field}")).is_empty() {
                    let at = at.child("volumeMounts").index(i).child(field);
                    errors.push(at.forbidden(MAY_NOT));
                }
            }
        }
    }
}

/// Clients written in Go say `resources: {}` where they mean nothing.
fn is_set(field: &str, value: &Value) -> bool {
    let nothing = field == "resources" && value.as_object().is_some_and(|own| own.is_empty());
    !value.is_null() && !nothing
}

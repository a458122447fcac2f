//! Environment variables and where their values come from.

use serde_json::Value;

use super::relative_path;
use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// What `fieldRef` may name, but for labels and annotations by key.
const FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub(super) fn validate(container: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, env) in container.list_at("/env").iter().enumerate() {
        let at = path.child("env").index(i);
        let name = env.str_at("/name");
        if name.is_empty() {
            errors.push(at.child("name").required(""));
        } else {
            errors.extend(
                names::env_name(name)
                    .iter()
                    .map(|m| at.child("name").invalid(name, m)),
            );
        }
        if let Some(source) = env.get("valueFrom") {
            value_from(env, source, &at.child("valueFrom"), errors);
        }
    }
    for (i, source) in container.list_at("/envFrom").iter().enumerate() {
        let at = path.child("envFrom").index(i);
        let prefix = source.str_at("/prefix");
        if !prefix.is_empty() {
            errors.extend(
                names::env_name(prefix)
                    .iter()
                    .map(|m| at.child("prefix").invalid(prefix, m)),
            );
        }
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(reference) = source.get(key) {
                sources += 1;
                if reference.str_at("/name").is_empty() {
                    errors.push(at.child(key).child("name").required(""));
                }
            }
        }
        match sources {
            0 => errors.push(at.invalid("", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => {
                errors.push(at.invalid("", "may not have more than one field specified at a time"))
            }
        }
    }
}

fn value_from(env: &Value, source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let count = source.as_object().map_or(0, |o| o.len());
    if count == 0 {
        errors.push(path.invalid(
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef`, or `fileKeyRef`",
        ));
    } else if !env.str_at("/value").is_empty() {
        errors.push(path.invalid("", "may not be specified when `value` is not empty"));
    } else if count > 1 {
        errors.push(path.invalid("", "may not have more than one field specified at a time"));
    }
    if let Some(field) = source.get("fieldRef") {
        let at = path.child("fieldRef");
        let name = field.str_at("/fieldPath");
        if name.is_empty() {
            errors.push(at.child("fieldPath").required(""));
        } else if !is_keyed(name) && !FIELDS.contains(&name) {
            errors.push(at.child("fieldPath").not_supported(name, FIELDS));
        }
    }
    if let Some(field) = source.get("resourceFieldRef") {
        let at = path.child("resourceFieldRef").child("resource");
        let name = field.str_at("/resource");
        if name.is_empty() {
            errors.push(at.required(""));
        } else if !RESOURCES.contains(&name) && !name.contains("hugepages-") {
            errors.push(at.not_supported(name, RESOURCES));
        }
    }
    if let Some(reference) = source.get("fileKeyRef") {
        file_key(reference, &path.child("fileKeyRef"), errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(key) {
            let at = path.child(key);
            if reference.str_at("/name").is_empty() {
                errors.push(at.child("name").required(""));
            }
            let entry = reference.str_at("/key");
            if entry.is_empty() {
                errors.push(at.child("key").required(""));
            } else {
                errors.extend(
                    names::config_key(entry)
                        .iter()
                        .map(|m| at.child("key").invalid(entry, m)),
                );
            }
        }
    }
}

fn file_key(reference: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let field = |key| (reference.str_at(&format!("/{key}")), path.child(key));
    let (volume, at) = field("volumeName");
    match volume {
        "" => errors.push(at.required("")),
        name => errors.extend(names::label(name).iter().map(|m| at.invalid(name, m))),
    }
    let (file, at) = field("path");
    match file {
        "" => errors.push(at.required("")),
        file => relative_path(file, &at, errors),
    }
    let (key, at) = field("key");
    match key {
        "" => errors.push(at.required("")),
        key => errors.extend(names::env_name(key).iter().map(|m| at.invalid(key, m))),
    }
}

/// Files of variables are in volumes that live and die with the pod.
pub(super) fn file_volumes(
    container: &Value,
    spec: &Value,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    for (i, env) in container.list_at("/env").iter().enumerate() {
        let name = env.str_at("/valueFrom/fileKeyRef/volumeName");
        if name.is_empty() {
            continue;
        }
        let at = path.child("env").index(i).child("valueFrom");
        let at = at.child("fileKeyRef").child("volumeName");
        let mut volumes = spec.list_at("/volumes").iter();
        match volumes.find(|volume| volume.str_at("/name") == name) {
            None => errors.push(at.not_found(name)),
            Some(volume) if !volume.has("/emptyDir") => {
                errors.push(at.invalid(name, "referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
        }
    }
}

/// `metadata.labels['app']`
fn is_keyed(field: &str) -> bool {
    ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|p| field.starts_with(p))
        && field.ends_with("']")
}

//! Validation of volumes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::container::relative_path;
use super::spec::{PULL_POLICIES, one_of};
use crate::field::Path;
use crate::kinds::persistent_volume_claim;
use crate::quantity::Quantity;
use crate::resource::FieldError;
use crate::value::ValueExt;
use crate::{meta, names};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const HOST_PATH_TYPES: &[&str] = &[
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The names of the volumes; what is wrong goes to `errors`.
pub(super) fn validate<'a>(
    spec: &'a Value,
    path: &Path,
    template: bool,
    errors: &mut Vec<FieldError>,
) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (i, volume) in spec.list_at("/volumes").iter().enumerate() {
        let at = path.index(i);
        let name = volume.str_at("/name");
        source(volume, &at, template, errors);
        let wrong = if name.is_empty() {
            Vec::new()
        } else {
            names::label(name)
        };
        if name.is_empty() {
            errors.push(at.child("name").required(""));
        } else if !wrong.is_empty() {
            errors.extend(wrong.iter().map(|m| at.child("name").invalid(name, m)));
        } else if !seen.insert(name) {
            errors.push(at.child("name").duplicate(name));
        }
    }
    seen
}

fn source(volume: &Value, path: &Path, template: bool, errors: &mut Vec<FieldError>) {
    let mut kinds = 0;
    for (kind, source) in volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(k, _)| *k != "name")
    {
        let at = path.child(kind);
        kinds += 1;
        if kinds > 1 {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        match kind.as_str() {
            "configMap" => {
                if source.str_at("/name").is_empty() {
                    errors.push(at.child("name").required(""));
                }
                files(source, &at, errors);
            }
            "secret" => {
                if source.str_at("/secretName").is_empty() {
                    errors.push(at.child("secretName").required(""));
                }
                files(source, &at, errors);
            }
            "hostPath" => host_path(source, &at, errors),
            "emptyDir" => {
                let limit = source.str_at("/sizeLimit");
                if Quantity::parse(limit).is_ok_and(|q| q.is_negative()) {
                    errors.push(
                        at.child("sizeLimit")
                            .forbidden("SizeLimit field must be a valid resource quantity"),
                    );
                }
            }
            "downwardAPI" => mode(source, &at, "defaultMode", errors),
            "projected" => projected(source, &at, errors),
            "persistentVolumeClaim" if source.str_at("/claimName").is_empty() => {
                errors.push(at.child("claimName").required(""));
            }
            "ephemeral" => claim_template(source, &at.child("volumeClaimTemplate"), errors),
            "nfs" => {
                for key in ["server", "path"] {
                    if source.str_at(&format!("/{key}")).is_empty() {
                        errors.push(at.child(key).required(""));
                    }
                }
            }
            "image" => {
                // Who makes pods of a template may fill it in.
                if !template && source.str_at("/reference").is_empty() {
                    errors.push(at.child("reference").required(""));
                }
                one_of(source, &at, "pullPolicy", PULL_POLICIES, errors);
            }
            "csi" if source.str_at("/driver").is_empty() => {
                errors.push(at.child("driver").required(""))
            }
            _ => {}
        }
    }
    if kinds == 0 {
        errors.push(path.required("must specify a volume type"));
    }
}

/// The claim that is made for each pod; its labels and annotations are all that may be said of it.
fn claim_template(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(template) = source.get("volumeClaimTemplate") else {
        errors.push(path.required(""));
        return;
    };
    let at = path.child("metadata");
    for (key, value) in template.map_at("/metadata").into_iter().flatten() {
        let shown = at.child(key);
        match key.as_str() {
            "labels" => errors.extend(meta::validate_labels(Some(value), &shown)),
            "annotations" => errors.extend(meta::validate_annotations(Some(value), &shown)),
            _ if value.is_null() => {}
            _ => errors.push(shown.forbidden("cannot be set for an ephemeral volume")),
        }
    }
    let spec = template.get("spec").unwrap_or(&Value::Null);
    persistent_volume_claim::validate_spec(spec, &path.child("spec"), errors);
}

pub(crate) fn host_path(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let directory = source.str_at("/path");
    if directory.is_empty() {
        errors.push(path.child("path").required(""));
    } else if directory.split('/').any(|part| part == "..") {
        errors.push(
            path.child("path")
                .invalid(directory, "must not contain '..'"),
        );
    }
    let kind = source.str_at("/type");
    if !kind.is_empty() && !HOST_PATH_TYPES.contains(&kind) {
        errors.push(path.child("type").not_supported(kind, HOST_PATH_TYPES));
    }
}

fn projected(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    mode(source, path, "defaultMode", errors);
    for (i, part) in source.list_at("/sources").iter().enumerate() {
        let at = path.child("sources").index(i);
        let kinds = part.as_object().map_or(0, |o| o.len());
        if kinds > 1 {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
        } else if kinds == 0 {
            errors.push(at.required("must specify a volume type"));
        }
        for kind in ["configMap", "secret"] {
            if let Some(named) = part.get(kind) {
                if named.str_at("/name").is_empty() {
                    errors.push(at.child(kind).child("name").required(""));
                }
                items(named, &at.child(kind), errors);
            }
        }
        if let Some(token) = part.get("serviceAccountToken") {
            let at = at.child("serviceAccountToken");
            let seconds = token.i64_at("/expirationSeconds");
            if seconds < 600 {
                errors.push(
                    at.child("expirationSeconds")
                        .invalid(seconds, "may not specify a duration less than 10 minutes"),
                );
            }
            if token.str_at("/path").is_empty() {
                errors.push(at.child("path").required(""));
            }
        }
    }
}

fn files(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    mode(source, path, "defaultMode", errors);
    items(source, path, errors);
}

fn items(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, item) in source.list_at("/items").iter().enumerate() {
        let at = path.child("items").index(i);
        if item.str_at("/key").is_empty() {
            errors.push(at.child("key").required(""));
        }
        let file = item.str_at("/path");
        if file.is_empty() {
            errors.push(at.child("path").required(""));
        }
        relative_path(file, &at.child("path"), errors);
        mode(item, &at, "mode", errors);
    }
}

fn mode(holder: &Value, path: &Path, key: &str, errors: &mut Vec<FieldError>) {
    if let Some(mode) = holder.opt_i64(&format!("/{key}"))
        && !(0..=0o777).contains(&mode)
    {
        errors.push(path.child(key).invalid(mode, MODE));
    }
}

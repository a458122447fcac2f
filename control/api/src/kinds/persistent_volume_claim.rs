//! What somebody needs of storage, and the volume that it got.

use k8s_openapi::api::core::v1::PersistentVolumeClaim as Typed;
use serde_json::{Value, json};

use super::selector;
use super::storage::{
    VOLUME_MODE_COLUMN, VOLUME_MODES, access_modes, class, class_name, one_of, phase, positive,
    same_but, shown_modes, unset,
};
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::quantity::Quantity;
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

const REQUEST: &str = "/spec/resources/requests/storage";
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub const ROW: Resource = Resource {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    storage_prefix: "persistentvolumeclaims",
    subresources: &[Subresource::status("", "v1", "PersistentVolumeClaim")],
    decode: typed::<Typed>,
    default: |claim| {
        if let Some(status) = claim.get_mut("status") {
            status.default_to("phase", "Pending");
        }
        claim.default_to("spec", json!({}));
        if let Some(spec) = claim.get_mut("spec") {
            spec.default_to("volumeMode", "Filesystem");
            same_data_source(spec);
        }
    },
    prepare_create: |claim| {
        if let Some(object) = claim.as_object_mut() {
            object.insert("status".into(), json!({"phase": "Pending"}));
        }
    },
    prepare_update: meta::keep_status,
    validate_create: |claim| {
        let mut errors = meta::validate(claim, true, names::subdomain);
        let spec = claim.get("spec").unwrap_or(&Value::Null);
        validate_spec(spec, &Path::new("spec"), &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        let spec = new.get("spec").unwrap_or(&Value::Null);
        validate_spec(spec, &Path::new("spec"), &mut errors);
        validate_change(new, old, &mut errors);
        errors
    },
    validate_status: |new, old| {
        let mut errors = meta::validate_update(new, old);
        if new.list_at("/spec/accessModes").is_empty() {
            errors.push(Path::new("Spec").child("accessModes").required(""));
        }
        let path = Path::new("status").child("capacity");
        for (name, amount) in new.map_at("/status/capacity").into_iter().flatten() {
            let amount = amount.as_str().and_then(|text| Quantity::parse(text).ok());
            if let Some(amount) = amount.filter(Quantity::is_negative) {
                let words = "must be a valid resource quantity";
                errors.push(path.key(name).invalid(amount.to_string(), words));
            }
        }
        errors
    },
    selectable_fields: |claim| vec![("name", claim.str_at("/metadata/name").to_owned())],
    columns: COLUMNS,
    cells: |claim, now| {
        let bound = !claim.str_at("/spec/volumeName").is_empty();
        let (capacity, modes) = match bound {
            true => (
                claim.str_at("/status/capacity/storage"),
                shown_modes(claim, "/status/accessModes"),
            ),
            false => ("", String::new()),
        };
        vec![
            name(claim),
            phase(claim),
            claim.str_at("/spec/volumeName").into(),
            capacity.into(),
            modes.into(),
            class(claim).unwrap_or_default().into(),
            unset(claim.str_at("/spec/volumeAttributesClassName")),
            age(claim, now),
            unset(claim.str_at("/spec/volumeMode")),
        ]
    },
    schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
    types: register::<Typed>,
    ..BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Status",
        "phase represents the current phase of PersistentVolumeClaim.",
    ),
    column(
        "Volume",
        "volumeName is the binding reference to the PersistentVolume backing this claim.",
    ),
    column(
        "Capacity",
        "capacity represents the actual resources of the underlying volume.",
    ),
    column(
        "Access Modes",
        "accessModes contains the actual access modes the volume backing the PVC has. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
    ),
    column(
        "StorageClass",
        "storageClassName is the name of the StorageClass required by the claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#class-1",
    ),
    column(
        "VolumeAttributesClass",
        "volumeAttributesClassName may be used to set the VolumeAttributesClass used by this claim. More info: https://kubernetes.io/docs/concepts/storage/volume-attributes-classes/",
    ),
    AGE,
    VOLUME_MODE_COLUMN,
];

/// The two fields for where the first content comes from say the same, unless it is of another namespace.
fn same_data_source(spec: &mut Value) {
    let reference = spec.get("dataSourceRef").cloned();
    match (spec.get("dataSource").cloned(), reference) {
        (Some(source), None) => spec.default_to("dataSourceRef", source),
        (None, Some(reference)) if reference.str_at("/namespace").is_empty() => {
            let mut source = reference;
            source.remove_key("namespace");
            spec.default_to("dataSource", source);
        }
        _ => {}
    }
}

/// Of a claim, or of the template of one.
pub(super) fn validate_spec(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if spec.list_at("/accessModes").is_empty() {
        errors.push(
            path.child("accessModes")
                .required("at least 1 access mode is required"),
        );
    }
    if let Some(selector) = spec.get("selector") {
        errors.extend(selector::validate(selector, &path.child("selector")));
    }
    access_modes(spec, path, errors);
    let at = path.child("resources").key("storage");
    match spec.pointer("/resources/requests/storage") {
        Some(amount) => positive(amount, &at, errors),
        None => errors.push(at.required("")),
    }
    class_name(spec, path, "storageClassName", errors);
    one_of(spec, path, "volumeMode", VOLUME_MODES, errors);
    for key in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get(key) {
            data_source(source, &path.child(key), errors);
        }
    }
    if let (Some(source), Some(reference)) = (spec.get("dataSource"), spec.get("dataSourceRef")) {
        let at = path.child("dataSource").to_string();
        if !reference.str_at("/namespace").is_empty() {
            let words = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(path.invalid(at, words));
        } else if !same_but(source, reference, &["namespace"]) {
            errors.push(path.invalid(at, "must match dataSourceRef"));
        }
    }
    class_name(spec, path, "volumeAttributesClassName", errors);
}

fn data_source(source: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for key in ["name", "kind"] {
        if source.str_at(&format!("/{key}")).is_empty() {
            errors.push(path.child(key).required(""));
        }
    }
    let (group, kind) = (source.str_at("/apiGroup"), source.str_at("/kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let words = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(path.invalid(kind, words));
    }
    for (key, value, check) in [
        ("apiGroup", group, names::subdomain as names::NameCheck),
        ("namespace", source.str_at("/namespace"), names::label),
    ] {
        if !value.is_empty() {
            let at = path.child(key);
            errors.extend(check(value).iter().map(|m| at.invalid(value, m)));
        }
    }
}

/// A claim stays what it is; it may be bound once, get a class once, and ask for more once it is bound.
fn validate_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let text = |claim: &Value, pointer: &str| claim.str_at(pointer).to_owned();
    let mut may_change = vec!["volumeAttributesClassName"];
    if text(old, "/spec/volumeName").is_empty() {
        may_change.push("volumeName");
    }
    let beta = |claim: &Value| claim["metadata"]["annotations"][BETA_CLASS].clone();
    let class = new.pointer("/spec/storageClassName");
    let comes = class.is_some() && !old.has("/spec/storageClassName");
    let agrees = beta(old).is_null() || class == Some(&beta(old));
    if comes && agrees {
        may_change.push("storageClassName");
    }
    let moved = beta(old).is_string() && comes && agrees && beta(new).is_null();
    if beta(new) != beta(old) && !moved {
        let at = Path::new("metadata").child("annotations").key(BETA_CLASS);
        errors.push(at.invalid(beta(new), "field is immutable"));
    }
    let spec = |claim: &Value| {
        let mut spec = claim.get("spec").cloned().unwrap_or_default();
        if text(new, "/status/phase") == "Bound"
            && let Some(requests) = spec.pointer_mut("/resources/requests")
        {
            requests.remove_key("storage");
        }
        spec
    };
    if !same_but(&spec(new), &spec(old), &may_change) {
        errors.push(path.forbidden(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let amount = |claim: &Value, at: &str| Quantity::parse(claim.str_at(at)).ok();
    if let (Some(now), Some(before)) = (amount(new, REQUEST), amount(old, REQUEST))
        && now < before
        && amount(old, "/status/capacity/storage").is_none_or(|has| now <= has)
    {
        let at = path.child("resources").child("requests").child("storage");
        errors.push(at.forbidden("field can not be less than status.capacity"));
    }
    let mode = |claim: &Value| text(claim, "/spec/volumeMode");
    if mode(new) != mode(old) {
        errors.push(Path::new("volumeMode").invalid(mode(new), "field is immutable"));
    }
    let class = "/spec/volumeAttributesClassName";
    if old.has(class) && text(new, class).is_empty() {
        let what = match new.has(class) {
            true => "an empty string",
            false => "nil",
        };
        errors.push(
            path.child("volumeAttributesClassName")
                .forbidden(&format!("update from non-nil value to {what} is forbidden")),
        );
    }
}

#[cfg(test)]
mod tests;

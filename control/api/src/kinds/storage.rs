//! What volumes, claims and classes have in common: access modes, modes, amounts.

use serde_json::{Map, Value};

use crate::field::Path;
use crate::quantity::Quantity;
use crate::resource::{Column, FieldError};
use crate::value::ValueExt;
use crate::{names, print};

/// The class as it was named before there was a field, which still counts.
const BETA_CLASS: &str = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
const ONE_POD: &str = "ReadWriteOncePod";
const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", ONE_POD];
pub(super) const RECLAIM_POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(super) const VOLUME_MODE_COLUMN: Column = print::wide(
    "VolumeMode",
    "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.",
);

/// The class of a volume or a claim, if it says one.
pub(super) fn class(object: &Value) -> Option<&str> {
    let beta = object.pointer(BETA_CLASS).and_then(Value::as_str);
    beta.or_else(|| {
        object
            .pointer("/spec/storageClassName")
            .and_then(Value::as_str)
    })
}

pub(super) fn access_modes(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.child("accessModes");
    let modes = || {
        spec.list_at("/accessModes")
            .iter()
            .filter_map(Value::as_str)
    };
    for mode in modes().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(at.not_supported(mode, ACCESS_MODES));
    }
    let others = modes().any(|mode| mode != ONE_POD && ACCESS_MODES.contains(&mode));
    if others && modes().any(|mode| mode == ONE_POD) {
        errors.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// `RWO,ROX`: each once, in this order.
pub(super) fn shown_modes(object: &Value, pointer: &str) -> String {
    const SHORT: [(&str, &str); 4] = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        (ONE_POD, "RWOP"),
    ];
    let modes = object.list_at(pointer);
    let named = SHORT
        .iter()
        .filter(|(mode, _)| modes.iter().any(|own| own == mode));
    named.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// An amount that must be there and more than nothing.
pub(super) fn positive(value: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let amount = value.as_str().and_then(|text| Quantity::parse(text).ok());
    if let Some(amount) = amount.filter(|amount| amount.is_negative() || amount.is_zero()) {
        errors.push(path.invalid(amount.to_string(), "must be greater than zero"));
    }
}

pub(super) fn class_name(holder: &Value, path: &Path, key: &str, errors: &mut Vec<FieldError>) {
    let name = holder.str_at(&format!("/{key}"));
    if !name.is_empty() {
        let at = path.child(key);
        errors.extend(names::subdomain(name).iter().map(|m| at.invalid(name, m)));
    }
}

/// A value that may be left out, but not be something else.
pub(super) fn one_of(
    holder: &Value,
    path: &Path,
    key: &str,
    supported: &[&str],
    errors: &mut Vec<FieldError>,
) {
    if let Some(value) = holder.get(key).and_then(Value::as_str)
        && !supported.contains(&value)
    {
        errors.push(path.child(key).not_supported(value, supported));
    }
}

/// Whether two objects' fields are the same, but for these.
pub(super) fn same_but(one: &Value, other: &Value, but: &[&str]) -> bool {
    let rest = |object: &Value| {
        let fields = object.as_object().cloned().unwrap_or_default();
        let kept = fields
            .into_iter()
            .filter(|(key, value)| !but.contains(&key.as_str()) && !value.is_null());
        kept.collect::<Map<String, Value>>()
    };
    rest(one) == rest(other)
}

pub(super) fn unset(text: &str) -> Value {
    match text {
        "" => "<unset>".into(),
        text => text.into(),
    }
}

/// Of volumes and claims: what is going is called so, whatever its phase.
pub(super) fn phase(object: &Value) -> Value {
    match object.has("/metadata/deletionTimestamp") {
        true => "Terminating".into(),
        false => object.str_at("/status/phase").into(),
    }
}

use k8s_openapi::api::core::v1::ConfigMap as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, name, number};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// What one ConfigMap or Secret may hold.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

pub const ROW: Resource = Resource {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    storage_prefix: "configmaps",
    decode: typed::<Typed>,
    validate_create: |map| {
        let mut errors = meta::validate(map, true, names::subdomain);
        validate_data(map, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        immutable(new, old, &["data", "binaryData"], &mut errors);
        validate_data(new, &mut errors);
        errors
    },
    columns: &[
        NAME,
        number(
            "Data",
            "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.",
        ),
        AGE,
    ],
    cells: |map, now| {
        let count = |key| map.map_at(key).map_or(0, |m| m.len());
        vec![
            name(map),
            (count("/data") + count("/binaryData")).into(),
            age(map, now),
        ]
    },
    schema: "io.k8s.api.core.v1.ConfigMap",
    types: register::<Typed>,
    ..BASE
};

fn validate_data(map: &Value, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for kind in ["data", "binaryData"] {
        for (key, value) in map.map_at(&format!("/{kind}")).into_iter().flatten() {
            let at = Path::new(kind).key(key);
            errors.extend(
                names::config_key(key)
                    .iter()
                    .map(|m| at.invalid(key.as_str(), m)),
            );
            if kind == "data"
                && map
                    .pointer("/binaryData")
                    .is_some_and(|b| b.get(key).is_some())
            {
                errors.push(at.invalid(key.as_str(), "duplicate of key present in binaryData"));
            }
            let text = value.as_str().unwrap_or("");
            size += if kind == "data" {
                text.len()
            } else {
                text.len() / 4 * 3
            };
        }
    }
    if size > MAX_SIZE {
        errors.push(Path::new("").too_long(MAX_SIZE));
    }
}

/// `immutable: true` freezes the data and itself.
pub(super) fn immutable(new: &Value, old: &Value, data: &[&str], errors: &mut Vec<FieldError>) {
    if !old.bool_at("/immutable") {
        return;
    }
    const FROZEN: &str = "field is immutable when `immutable` is set";
    if !new.bool_at("/immutable") {
        errors.push(Path::new("immutable").forbidden(FROZEN));
    }
    for key in data {
        if new.get(key) != old.get(key) {
            errors.push(Path::new(key).forbidden(FROZEN));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_sizes_and_immutability_are_checked() {
        let map = |data: Value| json!({"metadata": {"name": "c", "namespace": "n"}, "data": data, "immutable": true});
        let errors = |v: Vec<FieldError>| v.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!((ROW.validate_create)(&map(json!({"a.b": "x"}))).is_empty());
        assert!(
            errors((ROW.validate_create)(&map(json!({"a/b": "x"}))))[0]
                .starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key")
        );
        assert_eq!(
            errors((ROW.validate_create)(&map(
                json!({"a": "x".repeat(MAX_SIZE + 1)})
            )))[0],
            ": Too long: may not be more than 1048576 bytes"
        );
        assert_eq!(
            errors((ROW.validate_update)(
                &map(json!({"a": "2"})),
                &map(json!({"a": "1"}))
            )),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
    }
}

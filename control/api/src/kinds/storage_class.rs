//! How volumes of a name are made and bound.

use k8s_openapi::api::storage::v1::StorageClass as Typed;
use serde_json::Value;

use super::storage::RECLAIM_POLICIES;
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// `true`: claims that name no class are of this one.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;
const BINDING_MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];

pub const ROW: Resource = Resource {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    storage_prefix: "storageclasses",
    decode: typed::<Typed>,
    default: |class| {
        class.default_to("reclaimPolicy", "Delete");
        class.default_to("volumeBindingMode", "Immediate");
    },
    validate_create: |class| {
        let mut errors = meta::validate(class, false, names::subdomain);
        validate(class, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &mut errors);
        for (key, words) in [
            ("parameters", "updates to parameters are forbidden."),
            ("provisioner", "updates to provisioner are forbidden."),
            ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
        ] {
            if new.get(key) != old.get(key) {
                errors.push(Path::new(key).forbidden(words));
            }
        }
        let mode = |class: &Value| class.str_at("/volumeBindingMode").to_owned();
        if mode(new) != mode(old) {
            errors.push(Path::new("volumeBindingMode").invalid(mode(new), "field is immutable"));
        }
        errors
    },
    columns: &[
        NAME,
        column(
            "Provisioner",
            "provisioner indicates the type of the provisioner.",
        ),
        column(
            "ReclaimPolicy",
            "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
        ),
        column(
            "VolumeBindingMode",
            "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound.  When unset, VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling feature.",
        ),
        column(
            "AllowVolumeExpansion",
            "allowVolumeExpansion shows whether the storage class allow volume expand.",
        ),
        AGE,
    ],
    cells: |class, now| {
        let name = class.str_at("/metadata/name");
        vec![
            match is_default(class) {
                true => format!("{name} (default)").into(),
                false => name.into(),
            },
            class.str_at("/provisioner").into(),
            class.str_at("/reclaimPolicy").into(),
            class.str_at("/volumeBindingMode").into(),
            class.bool_at("/allowVolumeExpansion").into(),
            age(class, now),
        ]
    },
    schema: "io.k8s.api.storage.v1.StorageClass",
    types: register::<Typed>,
    ..BASE
};

/// Whether claims that name no class get this one.
pub fn is_default(class: &Value) -> bool {
    let annotations = class.pointer("/metadata/annotations");
    IS_DEFAULT
        .iter()
        .any(|key| annotations.is_some_and(|own| own[*key] == "true"))
}

/// Of several that say they are it, the newest; among equals the first by name.
pub fn default_of<'a>(classes: impl Iterator<Item = &'a Value>) -> Option<&'a str> {
    let age = |class: &Value| class.str_at("/metadata/creationTimestamp").to_owned();
    let name = |class: &'a Value| class.str_at("/metadata/name");
    classes
        .filter(|class| is_default(class))
        .min_by(|one, other| {
            let newest = age(other).cmp(&age(one));
            newest.then_with(|| name(one).cmp(name(other)))
        })
        .map(name)
}

fn validate(class: &Value, errors: &mut Vec<FieldError>) {
    let provisioner = class.str_at("/provisioner");
    let at = Path::new("provisioner");
    if provisioner.is_empty() {
        errors.push(at.required(""));
    } else {
        let wrong = names::qualified(&provisioner.to_lowercase());
        errors.extend(wrong.iter().map(|m| at.invalid(provisioner, m)));
    }
    parameters(class, errors);
    for (key, supported) in [
        ("reclaimPolicy", &RECLAIM_POLICIES[..]),
        ("volumeBindingMode", BINDING_MODES),
    ] {
        let value = class.str_at(&format!("/{key}"));
        // What recycles volumes makes none.
        let supported: Vec<&str> = supported
            .iter()
            .copied()
            .filter(|own| *own != "Recycle")
            .collect();
        if key == "volumeBindingMode" && value.is_empty() {
            errors.push(Path::new(key).required(""));
        } else if !value.is_empty() && !supported.contains(&value) {
            errors.push(Path::new(key).not_supported(value, &supported));
        }
    }
    topologies(class, errors);
}

fn parameters(class: &Value, errors: &mut Vec<FieldError>) {
    let at = Path::new("parameters");
    let Some(parameters) = class.map_at("/parameters") else {
        return;
    };
    if parameters.len() > MAX_PARAMETERS {
        errors.push(at.too_long(MAX_PARAMETERS));
        return;
    }
    let mut size = 0;
    for (key, value) in parameters {
        if key.is_empty() {
            errors.push(at.invalid(key.as_str(), "field can not be empty."));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_PARAMETERS_SIZE {
        errors.push(at.too_long(MAX_PARAMETERS_SIZE));
    }
}

fn topologies(class: &Value, errors: &mut Vec<FieldError>) {
    for (i, term) in class.list_at("/allowedTopologies").iter().enumerate() {
        let term_at = Path::new("allowedTopologies").index(i);
        let mut keys: Vec<&str> = Vec::new();
        for (j, requirement) in term.list_at("/matchLabelExpressions").iter().enumerate() {
            let at = term_at.child("matchLabelExpressions").index(j);
            let key = requirement.str_at("/key");
            let values = requirement.list_at("/values");
            let wrong = names::qualified(key);
            errors.extend(wrong.iter().map(|m| at.child("key").invalid(key, m)));
            if keys.contains(&key) {
                errors.push(at.child("key").duplicate(key));
            }
            keys.push(key);
            if values.is_empty() {
                errors.push(at.child("values").required(""));
            }
            for (k, value) in values.iter().enumerate() {
                if values[..k].contains(value) {
                    errors.push(at.child("values").index(k).duplicate(value.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(fields: Value) -> Value {
        let mut class = json!({"metadata": {"name": "fast"}, "provisioner": "example.com/p"});
        for (key, value) in fields.as_object().into_iter().flatten() {
            class[key] = value.clone();
        }
        (ROW.default)(&mut class);
        class
    }

    fn words(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn classes_are_checked() {
        let term = |key: &str, values: Value| json!([{"matchLabelExpressions": [{"key": key, "values": values}]}]);
        for (fields, wrong) in [
            (json!({}), vec![]),
            (
                json!({"provisioner": ""}),
                vec!["provisioner: Required value"],
            ),
            (
                json!({"reclaimPolicy": "Recycle"}),
                vec![
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                ],
            ),
            (
                json!({"volumeBindingMode": "Later"}),
                vec![
                    "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
                ],
            ),
            (
                json!({"allowedTopologies": term("zone", json!(["a"]))}),
                vec![],
            ),
            (
                json!({"allowedTopologies": term("zone", json!([]))}),
                vec!["allowedTopologies[0].matchLabelExpressions[0].values: Required value"],
            ),
            (
                json!({"allowedTopologies": term("zone", json!(["a", "a"]))}),
                vec![
                    "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
                ],
            ),
        ] {
            let errors = (ROW.validate_create)(&class(fields.clone()));
            assert_eq!(words(&errors), wrong, "{fields}");
        }
    }

    #[test]
    fn what_makes_volumes_stays() {
        let old = class(json!({}));
        for (fields, wrong) in [
            (json!({"allowVolumeExpansion": true}), vec![]),
            (
                json!({"provisioner": "example.com/q"}),
                vec!["provisioner: Forbidden: updates to provisioner are forbidden."],
            ),
            (
                json!({"parameters": {"a": "b"}}),
                vec!["parameters: Forbidden: updates to parameters are forbidden."],
            ),
            (
                json!({"reclaimPolicy": "Retain"}),
                vec!["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
            ),
            (
                json!({"volumeBindingMode": "WaitForFirstConsumer"}),
                vec![
                    "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
                ],
            ),
        ] {
            let errors = (ROW.validate_update)(&class(fields.clone()), &old);
            assert_eq!(words(&errors), wrong, "{fields}");
        }
    }

    #[test]
    fn the_default_is_the_newest_that_says_so() {
        let of = |name: &str, age: &str, is: &str| {
            json!({"metadata": {
                "name": name, "creationTimestamp": age,
                "annotations": {"storageclass.kubernetes.io/is-default-class": is},
            }})
        };
        let old = of("old", "2026-01-01T00:00:00Z", "true");
        let new = of("new", "2026-02-01T00:00:00Z", "true");
        let twin = of("a-twin", "2026-02-01T00:00:00Z", "true");
        let not = of("not", "2026-03-01T00:00:00Z", "false");
        assert_eq!(default_of([&old, &new, &not].into_iter()), Some("new"));
        assert_eq!(default_of([&old, &new, &twin].into_iter()), Some("a-twin"));
        assert_eq!(default_of([&not].into_iter()), None);
        let cells = (ROW.cells)(&old, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "old (default)");
    }
}

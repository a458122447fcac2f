//! metadata: what holds for every kind, on create and on update.

use serde_json::Value;

use crate::field::Path;
use crate::names::{self, NameCheck};
use crate::resource::FieldError;
use crate::value::ValueExt;

const ANNOTATIONS_MAX: usize = 256 * 1024;

/// ValidateObjectMeta. Runs after generateName was replaced by a name.
pub fn validate(object: &Value, namespaced: bool, name_check: NameCheck) -> Vec<FieldError> {
    let meta = object.get("metadata").unwrap_or(&Value::Null);
    let path = Path::new("metadata");
    let mut errors = Vec::new();

    let generate = meta.str_at("/generateName");
    if !generate.is_empty() {
        // What is appended will end the name, so a trailing dash is fine.
        let masked = generate
            .strip_suffix('-')
            .map_or(generate.to_string(), |s| format!("{s}a"));
        errors.extend(
            name_check(&masked)
                .iter()
                .map(|m| path.child("generateName").invalid(generate, m)),
        );
    }
    let name = meta.str_at("/name");
    if name.is_empty() {
        errors.push(
            path.child("name")
                .required("name or generateName is required"),
        );
    } else {
        errors.extend(
            name_check(name)
                .iter()
                .map(|m| path.child("name").invalid(name, m)),
        );
    }
    let namespace = meta.str_at("/namespace");
    if namespaced && namespace.is_empty() {
        errors.push(path.child("namespace").required(""));
    } else if namespaced {
        errors.extend(
            names::label(namespace)
                .iter()
                .map(|m| path.child("namespace").invalid(namespace, m)),
        );
    } else if !namespace.is_empty() {
        errors.push(
            path.child("namespace")
                .forbidden("not allowed on this type"),
        );
    }
    errors.extend(common(meta, &path));
    errors
}

/// ValidateObjectMetaUpdate.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let (new, old) = (
        new.get("metadata").unwrap_or(&Value::Null),
        old.get("metadata").unwrap_or(&Value::Null),
    );
    let mut errors = Vec::new();
    if old.has("/deletionTimestamp") {
        let known = old.list_at("/finalizers");
        let added: Vec<String> = new
            .list_at("/finalizers")
            .iter()
            .filter(|f| !known.contains(f))
            .map(ToString::to_string)
            .collect();
        if !added.is_empty() {
            errors.push(path.child("finalizers").forbidden(&format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            )));
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if new.get(key) != old.get(key) {
            let value = new.get(key).cloned().unwrap_or(Value::Null);
            errors.push(path.child(key).invalid(value, "field is immutable"));
        }
    }
    if new.i64_at("/generation") < old.i64_at("/generation") {
        errors.push(
            path.child("generation")
                .invalid(new.i64_at("/generation"), "must not be decremented"),
        );
    }
    errors.extend(common(new, &path));
    errors
}

/// Labels and annotations as they stand in pod templates too.
pub fn validate_labels(labels: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| path.invalid(key.as_str(), m)),
        );
        let value = value.as_str().unwrap_or("");
        errors.extend(
            names::label_value(value)
                .iter()
                .map(|m| path.invalid(value, m)),
        );
    }
    errors
}

pub fn validate_annotations(annotations: Option<&Value>, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        errors.extend(
            names::qualified(&key.to_lowercase())
                .iter()
                .map(|m| path.invalid(key.as_str(), m)),
        );
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(path.too_long(ANNOTATIONS_MAX));
    }
    errors
}

fn common(meta: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if meta.i64_at("/generation") < 0 {
        errors.push(path.child("generation").invalid(
            meta.i64_at("/generation"),
            "must be greater than or equal to 0",
        ));
    }
    errors.extend(validate_labels(meta.get("labels"), &path.child("labels")));
    errors.extend(validate_annotations(
        meta.get("annotations"),
        &path.child("annotations"),
    ));
    errors.extend(owners(meta, &path.child("ownerReferences")));
    errors.extend(finalizers(meta, &path.child("finalizers")));
    errors
}

fn finalizers(meta: &Value, path: &Path) -> Vec<FieldError> {
    let list: Vec<&str> = meta
        .list_at("/finalizers")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut errors = Vec::new();
    for name in &list {
        errors.extend(
            names::qualified(name)
                .iter()
                .map(|m| path.invalid(*name, m)),
        );
    }
    if list.contains(&"foregroundDeletion") && list.contains(&"orphan") {
        errors.push(path.invalid(
            list.clone(),
            "finalizer foregroundDeletion and orphan cannot be both set",
        ));
    }
    for (i, name) in list.iter().enumerate() {
        errors.extend(unqualified_finalizer(name, &path.index(i)));
    }
    errors
}

/// A namespace's `spec.finalizers` item.
pub fn validate_finalizer(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors: Vec<FieldError> = names::qualified(name)
        .iter()
        .map(|m| path.invalid(name, m))
        .collect();
    errors.extend(unqualified_finalizer(name, path));
    errors
}

fn unqualified_finalizer(name: &str, path: &Path) -> Option<FieldError> {
    let standard = matches!(name, "kubernetes" | "orphan" | "foregroundDeletion");
    (!name.contains('/') && !standard).then(|| {
        path.invalid(
            name,
            "name is neither a standard finalizer name nor is it fully qualified",
        )
    })
}

fn owners(meta: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut controller: Option<String> = None;
    for owner in meta.list_at("/ownerReferences") {
        for (key, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner.str_at(&format!("/{key}")).is_empty() {
                errors.push(path.child(key).invalid("", detail));
            }
        }
        if (owner.str_at("/apiVersion"), owner.str_at("/kind")) == ("v1", "Event") {
            errors.push(path.invalid(
                owner.clone(),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.bool_at("/controller") {
            let name = format!("{}/{}", owner.str_at("/kind"), owner.str_at("/name"));
            match &controller {
                Some(first) => errors.push(path.invalid(
                    meta.list_at("/ownerReferences"),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                )),
                None => controller = Some(name),
            }
        }
    }
    errors
}

/// Status strategies of most kinds: all but `status`, and of metadata all but labels' sibling fields that clients own,
/// stays as it was.
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let keys: Vec<String> = [&*new, old]
        .iter()
        .filter_map(|v| v.as_object())
        .flat_map(|o| o.keys().cloned())
        .filter(|k| !matches!(k.as_str(), "status" | "metadata" | "apiVersion" | "kind"))
        .collect();
    for key in keys {
        new.copy_key(old, &key);
    }
    if let Some(meta) = new.get_mut("metadata") {
        let old_meta = old.get("metadata").unwrap_or(&Value::Null);
        for key in [
            "generation",
            "ownerReferences",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            meta.copy_key(old_meta, key);
        }
    }
}

/// Kinds with a generation: it starts at 1.
pub fn first_generation(object: &mut Value) {
    set_generation(object, 1);
}

/// The main resource keeps the old status; a change of `spec` is a new generation.
pub fn next_generation(new: &mut Value, old: &Value) {
    new.copy_key(old, "status");
    let generation = old.i64_at("/metadata/generation");
    let bump = i64::from(new.get("spec") != old.get("spec"));
    set_generation(new, generation + bump);
}

/// Kinds with a status but no generation.
pub fn keep_status(new: &mut Value, old: &Value) {
    new.copy_key(old, "status");
}

fn set_generation(object: &mut Value, generation: i64) {
    if generation > 0
        && let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.insert("generation".into(), generation.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn metadata_is_checked() {
        let table = [
            (json!({"name": "a", "namespace": "n"}), vec![]),
            (
                json!({"namespace": "n"}),
                vec!["metadata.name: Required value: name or generateName is required"],
            ),
            (
                json!({"name": "a"}),
                vec!["metadata.namespace: Required value"],
            ),
            (
                json!({"name": "a", "namespace": "n", "generateName": "web-"}),
                vec![],
            ),
            (
                json!({"name": "a", "namespace": "n", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o"}]}),
                vec!["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
            ),
            (
                json!({"name": "a", "namespace": "n", "finalizers": ["mine"]}),
                vec![
                    "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
        ];
        for (meta, expected) in table {
            assert_eq!(
                texts(validate(&json!({"metadata": meta}), true, names::subdomain)),
                expected
            );
        }
        let bad = json!({"metadata": {"name": "A_b", "namespace": "n", "labels": {"k": "a b"}}});
        let errors = texts(validate(&bad, true, names::subdomain));
        assert!(errors[0].starts_with(
            "metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must"
        ));
        assert!(
            errors[1].starts_with("metadata.labels: Invalid value: \"a b\": a valid label must be")
        );
    }

    #[test]
    fn what_is_going_gets_no_new_finalizer() {
        let old = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
        assert_eq!(
            texts(validate_update(&new, &old)),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}"
            ]
        );
        new["metadata"]["finalizers"] = json!([]);
        assert!(validate_update(&new, &old).is_empty());
    }

    #[test]
    fn a_status_update_changes_status_only() {
        let old = json!({"metadata": {"name": "a", "generation": 3}, "spec": {"x": 1}, "status": {"s": 1}});
        let mut new =
            json!({"metadata": {"name": "a"}, "spec": {"x": 2}, "status": {"s": 2}, "data": 1});
        keep_all_but_status(&mut new, &old);
        assert_eq!(
            new,
            json!({"metadata": {"name": "a", "generation": 3}, "spec": {"x": 1}, "status": {"s": 2}})
        );

        let mut new = json!({"metadata": {"name": "a"}, "spec": {"x": 2}, "status": {"s": 2}});
        next_generation(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
        assert_eq!(new["status"], old["status"]);
    }
}

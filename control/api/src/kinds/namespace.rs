use k8s_openapi::api::core::v1::Namespace as Typed;
use serde_json::{Value, json};

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{Resource, Subresource, SubresourceKind};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    storage_prefix: "namespaces",
    verbs: &[
        "create", "delete", "get", "list", "patch", "update", "watch",
    ],
    subresources: &[
        Subresource {
            name: "finalize",
            kind: SubresourceKind::Finalize,
            verbs: &["update"],
            group: "",
            version: "v1",
            object_kind: "Namespace",
        },
        Subresource::status("", "v1", "Namespace"),
    ],
    decode: typed::<Typed>,
    default: |namespace| {
        let label = namespace.str_at("/metadata/name").to_string();
        if let Some(meta) = namespace.get_mut("metadata")
            && !label.is_empty()
        {
            meta.default_to("labels", json!({}));
            if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
                labels.insert("kubernetes.io/metadata.name".into(), label.into());
            }
        }
    },
    prepare_create: |namespace| {
        namespace.default_to("spec", json!({}));
        if let Some(spec) = namespace.get_mut("spec") {
            let ours = json!("kubernetes");
            spec.default_to("finalizers", json!([]));
            if let Some(list) = spec.get_mut("finalizers").and_then(Value::as_array_mut)
                && !list.contains(&ours)
            {
                list.push(ours);
            }
        }
        if let Some(object) = namespace.as_object_mut() {
            object.insert("status".into(), json!({"phase": "Active"}));
        }
    },
    // spec.finalizers change through the finalize subresource only.
    prepare_update: |new, old| {
        new.copy_key(old, "spec");
        new.copy_key(old, "status");
    },
    validate_create: |namespace| {
        let mut errors = meta::validate(namespace, false, names::label);
        for finalizer in namespace
            .list_at("/spec/finalizers")
            .iter()
            .filter_map(Value::as_str)
        {
            errors.extend(meta::validate_finalizer(
                finalizer,
                &Path::new("spec").child("finalizers"),
            ));
        }
        errors
    },
    validate_status: |new, old| {
        let mut errors = meta::validate_update(new, old);
        let phase = new.str_at("/status/phase");
        let at = Path::new("status").child("phase");
        let deleted = new.has("/metadata/deletionTimestamp");
        if deleted && phase != "Terminating" {
            errors.push(at.invalid(
                phase,
                "may only be 'Terminating' if `deletionTimestamp` is not empty",
            ));
        } else if !deleted && phase != "Active" {
            errors.push(at.invalid(
                phase,
                "may only be 'Active' if `deletionTimestamp` is empty",
            ));
        }
        errors
    },
    selectable_fields: |namespace| {
        vec![
            ("name", namespace.str_at("/metadata/name").to_string()),
            (
                "status.phase",
                namespace.str_at("/status/phase").to_string(),
            ),
        ]
    },
    columns: &[NAME, column("Status", "The status of the namespace"), AGE],
    cells: |namespace, now| {
        vec![
            name(namespace),
            namespace.str_at("/status/phase").into(),
            age(namespace, now),
        ]
    },
    schema: "io.k8s.api.core.v1.Namespace",
    types: register::<Typed>,
    ..BASE
};

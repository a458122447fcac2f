use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet as Typed;
use serde_json::{Value, json};

use super::pod::defaults;
use super::workload;
use crate::decode::typed;
use crate::print::{AGE, NAME, age, containers, label_selector, name, number, wide};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    storage_prefix: "replicasets",
    subresources: &[
        Subresource::scale(),
        Subresource::status("apps", "v1", "ReplicaSet"),
    ],
    decode: typed::<Typed>,
    default: |set| {
        set.default_to("spec", json!({}));
        if let Some(spec) = set.get_mut("spec") {
            spec.default_to("replicas", 1);
        }
        defaults::template(set);
    },
    prepare_create: |set| {
        set["status"] = json!({"replicas": 0});
        meta::first_generation(set);
    },
    prepare_update: meta::next_generation,
    validate_create: |set| {
        let mut errors = meta::validate(set, true, names::subdomain);
        validate_spec(set, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_spec(new, &mut errors);
        workload::immutable_selector(new, old, &mut errors);
        errors
    },
    validate_status: |new, old| {
        workload::validate_status(
            new,
            old,
            &[
                "observedGeneration",
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "terminatingReplicas",
            ],
        )
    },
    selectable_fields: |set| {
        vec![(
            "status.replicas",
            set.i64_at("/status/replicas").to_string(),
        )]
    },
    columns: COLUMNS,
    cells,
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    types: register::<Typed>,
    ..BASE
};

fn validate_spec(set: &Value, errors: &mut Vec<FieldError>) {
    workload::validate_spec(set, "empty selector is invalid for deployment", errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    number(
        "Desired",
        "Replicas is the number of desired pods. This is a pointer to distinguish between explicit zero and unspecified. Defaults to 1. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    number(
        "Current",
        "Replicas is the most recently observed number of non-terminating pods. More info: https://kubernetes.io/docs/concepts/workloads/controllers/replicaset",
    ),
    number(
        "Ready",
        "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
    ),
    AGE,
    wide("Containers", "Names of each container in the template."),
    wide(
        "Images",
        "Images referenced by each container in the template.",
    ),
    wide(
        "Selector",
        "Selector is a label query over pods that should match the replica count. Label keys and values that must match in order to be controlled by this replica set. It must match the pod template's labels. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

fn cells(set: &Value, now: Timestamp) -> Vec<Value> {
    let (container_names, images) =
        containers(set.pointer("/spec/template/spec").unwrap_or(&Value::Null));
    vec![
        name(set),
        set.i64_at("/spec/replicas").into(),
        set.i64_at("/status/replicas").into(),
        set.i64_at("/status/readyReplicas").into(),
        age(set, now),
        container_names.into(),
        images.into(),
        label_selector(set.pointer("/spec/selector")).into(),
    ]
}

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment as Typed;
use serde_json::{Value, json};

use super::pod::defaults;
use super::workload;
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, containers, label_selector, name, number, wide};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub const ROW: Resource = Resource {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    storage_prefix: "deployments",
    subresources: &[
        Subresource::scale(),
        Subresource::status("apps", "v1", "Deployment"),
    ],
    decode: typed::<Typed>,
    default,
    prepare_create: |deployment| {
        deployment["status"] = json!({});
        meta::first_generation(deployment);
    },
    prepare_update: |new, old| {
        meta::next_generation(new, old);
        // Annotations are part of what the controller copies to its ReplicaSets.
        let unchanged = new.pointer("/metadata/generation") == old.pointer("/metadata/generation");
        if unchanged && new.pointer("/metadata/annotations") != old.pointer("/metadata/annotations")
        {
            new["metadata"]["generation"] = (old.i64_at("/metadata/generation") + 1).into();
        }
    },
    prepare_status: |new, old| {
        meta::keep_all_but_status(new, old);
        if let Some(meta) = new.get_mut("metadata") {
            meta.copy_key(old.get("metadata").unwrap_or(&Value::Null), "labels");
        }
    },
    validate_create: |deployment| {
        let mut errors = meta::validate(deployment, true, names::subdomain);
        validate_spec(deployment, &mut errors);
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
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
        )
    },
    columns: COLUMNS,
    cells,
    schema: "io.k8s.api.apps.v1.Deployment",
    types: register::<Typed>,
    ..BASE
};

fn default(deployment: &mut Value) {
    deployment.default_to("spec", json!({}));
    let Some(spec) = deployment.get_mut("spec") else {
        return;
    };
    spec.default_to("replicas", 1);
    spec.default_to("revisionHistoryLimit", 10);
    spec.default_to("progressDeadlineSeconds", 600);
    spec.default_to("strategy", json!({}));
    if let Some(strategy) = spec.get_mut("strategy") {
        strategy.default_to("type", "RollingUpdate");
        if strategy.str_at("/type") == "RollingUpdate" {
            strategy.default_to("rollingUpdate", json!({}));
            if let Some(rolling) = strategy.get_mut("rollingUpdate") {
                rolling.default_to("maxUnavailable", "25%");
                rolling.default_to("maxSurge", "25%");
            }
        }
    }
    defaults::template(deployment);
}

fn validate_spec(deployment: &Value, errors: &mut Vec<FieldError>) {
    workload::validate_spec(
        deployment,
        "empty selector is invalid for deployment",
        errors,
    );
    let path = Path::new("spec");
    let spec = deployment.get("spec").unwrap_or(&Value::Null);
    strategy(spec, &path.child("strategy"), errors);
    workload::non_negative(spec, &path, "revisionHistoryLimit", errors);
    workload::non_negative(spec, &path, "progressDeadlineSeconds", errors);
    if let Some(deadline) = spec.opt_i64("/progressDeadlineSeconds")
        && deadline <= spec.i64_at("/minReadySeconds")
    {
        errors.push(
            path.child("progressDeadlineSeconds")
                .invalid(deadline, "must be greater than minReadySeconds"),
        );
    }
}

fn strategy(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let rolling = spec.pointer("/strategy/rollingUpdate");
    match spec.str_at("/strategy/type") {
        "Recreate" => {
            if rolling.is_some() {
                errors.push(
                    path.child("rollingUpdate")
                        .forbidden("may not be specified when strategy `type` is 'Recreate'"),
                );
            }
        }
        "RollingUpdate" => {
            let at = path.child("rollingUpdate");
            let Some(rolling) = rolling else {
                errors.push(at.required("this should be defaulted and never be nil"));
                return;
            };
            let mut zero = true;
            for key in ["maxUnavailable", "maxSurge"] {
                let value = rolling.get(key).cloned().unwrap_or(json!(0));
                zero &= int_or_percent(&value, &at.child(key), errors) == Some(0);
            }
            if zero {
                let shown = rolling.get("maxUnavailable").cloned().unwrap_or(json!(0));
                errors.push(
                    at.child("maxUnavailable")
                        .invalid(shown, "may not be 0 when `maxSurge` is 0"),
                );
            }
            let over = rolling
                .str_at("/maxUnavailable")
                .strip_suffix('%')
                .and_then(|p| p.parse::<i64>().ok());
            if over.is_some_and(|p| p > 100) {
                let shown = rolling.str_at("/maxUnavailable");
                errors.push(
                    at.child("maxUnavailable")
                        .invalid(shown, "must not be greater than 100%"),
                );
            }
        }
        other => errors.push(
            path.child("type")
                .not_supported(other, &["Recreate", "RollingUpdate"]),
        ),
    }
}

/// The number, or the percentage; None when it is neither.
pub(super) fn int_or_percent(
    value: &Value,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> Option<i64> {
    match value {
        Value::String(text) => match text.strip_suffix('%').and_then(|p| p.parse::<u32>().ok()) {
            Some(percent) => Some(percent.into()),
            None => {
                errors.push(path.invalid(
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ));
                None
            }
        },
        other => {
            let number = other.as_i64().unwrap_or(0);
            if number < 0 {
                errors.push(path.invalid(number, "must be greater than or equal to 0"));
            }
            Some(number)
        }
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "Number of the pod with ready state"),
    number(
        "Up-to-date",
        "Total number of non-terminating pods targeted by this deployment that have the desired template spec.",
    ),
    number(
        "Available",
        "Total number of available non-terminating pods (ready for at least minReadySeconds) targeted by this deployment.",
    ),
    AGE,
    wide("Containers", "Names of each container in the template."),
    wide(
        "Images",
        "Images referenced by each container in the template.",
    ),
    wide(
        "Selector",
        "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected by this deployment. It must match the pod template's labels.",
    ),
];

fn cells(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let (container_names, images) = containers(
        deployment
            .pointer("/spec/template/spec")
            .unwrap_or(&Value::Null),
    );
    let (ready, wanted) = (
        deployment.i64_at("/status/readyReplicas"),
        deployment.i64_at("/spec/replicas"),
    );
    vec![
        name(deployment),
        format!("{ready}/{wanted}").into(),
        deployment.i64_at("/status/updatedReplicas").into(),
        deployment.i64_at("/status/availableReplicas").into(),
        age(deployment, now),
        container_names.into(),
        images.into(),
        label_selector(deployment.pointer("/spec/selector")).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(change: fn(&mut Value)) -> Vec<String> {
        let mut web = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        change(&mut web);
        (ROW.default)(&mut web);
        (ROW.validate_create)(&web)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn deployments_are_defaulted_and_checked() {
        type Case = (fn(&mut Value), &'static [&'static str]);
        let table: &[Case] = &[
            (|_| {}, &[]),
            (
                |d| d["spec"]["replicas"] = json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                |d| {
                    d["spec"].remove_key("selector");
                },
                &["spec.selector: Required value"],
            ),
            (
                |d| d["spec"]["selector"]["matchLabels"]["app"] = json!("db"),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                |d| d["spec"]["template"]["spec"]["restartPolicy"] = json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                |d| {
                    d["spec"]["strategy"] =
                        json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}})
                },
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                |d| d["spec"]["strategy"] = json!({"type": "Recreate", "rollingUpdate": {}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
        ];
        for (change, expected) in table {
            assert_eq!(web(*change), *expected);
        }
    }

    #[test]
    fn the_selector_is_immutable_and_generations_count() {
        let old = json!({"metadata": {"name": "w", "generation": 2}, "spec": {"selector": {"matchLabels": {"a": "b"}}}});
        let mut new = old.clone();
        new["spec"]["selector"]["matchLabels"]["a"] = json!("c");
        let errors = (ROW.validate_update)(&new, &old);
        assert!(errors.iter().any(|e| e.to_string()
            == "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable"));
        (ROW.prepare_update)(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 3);
    }

    #[test]
    fn columns_read_as_in_kubectl() {
        let web = json!({"metadata": {"name": "web", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y"}]}}},
            "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
        let now = Timestamp::from_second(125).unwrap();
        assert_eq!(
            cells(&web, now),
            [
                json!("web"),
                json!("2/3"),
                json!(3),
                json!(2),
                json!("2m5s"),
                json!("a,b"),
                json!("x:1,y"),
                json!("app=web")
            ]
        );
    }
}

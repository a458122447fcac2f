//! Pods, and the pod templates other kinds hold.

pub mod admission;
mod affinity;
mod annotations;
mod columns;
mod container;
pub(crate) mod defaults;
mod ephemeral;
mod profile;
mod qos;
mod resize;
pub(crate) mod spec;
mod sysctls;
mod update;
mod volume;
mod whole;

use k8s_openapi::api::core::v1::Pod as Typed;
use serde_json::{Value, json};

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::{Resource, Subresource, SubresourceKind};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

pub(crate) use affinity::{EFFECTS, node_selector, tolerations};
pub use qos::qos_class;
pub(crate) use volume::host_path;

pub const ROW: Resource = Resource {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    storage_prefix: "pods",
    subresources: &[
        Subresource::stream("attach", "PodAttachOptions"),
        Subresource {
            name: "binding",
            kind: SubresourceKind::Binding,
            verbs: &["create"],
            group: "",
            version: "v1",
            object_kind: "Binding",
        },
        Subresource {
            name: "ephemeralcontainers",
            kind: SubresourceKind::Part {
                prepare: ephemeral::prepare,
                validate: ephemeral::validate,
            },
            verbs: &["get", "patch", "update"],
            group: "",
            version: "v1",
            object_kind: "Pod",
        },
        Subresource {
            name: "eviction",
            kind: SubresourceKind::Eviction,
            verbs: &["create"],
            group: "policy",
            version: "v1",
            object_kind: "Eviction",
        },
        Subresource::stream("exec", "PodExecOptions"),
        Subresource {
            name: "log",
            kind: SubresourceKind::Log,
            verbs: &["get"],
            group: "",
            version: "v1",
            object_kind: "Pod",
        },
        Subresource::stream("portforward", "PodPortForwardOptions"),
        Subresource::proxy("PodProxyOptions"),
        Subresource {
            name: "resize",
            kind: SubresourceKind::Part {
                prepare: resize::prepare,
                validate: resize::validate,
            },
            verbs: &["get", "patch", "update"],
            group: "",
            version: "v1",
            object_kind: "Pod",
        },
        Subresource::status("", "v1", "Pod"),
    ],
    decode: typed::<Typed>,
    default: defaults::pod,
    prepare_create,
    prepare_update: meta::next_generation,
    prepare_status,
    validate_create: |pod| {
        let mut errors = meta::validate(pod, true, names::subdomain);
        errors.extend(spec::validate(
            pod.get("spec").unwrap_or(&Value::Null),
            &crate::field::Path::new("spec"),
            false,
        ));
        errors.extend(ephemeral::validate_create(pod));
        errors.extend(annotations::validate_create(pod));
        errors
    },
    validate_update: update::validate,
    validate_status: update::validate_status,
    selectable_fields,
    columns: columns::COLUMNS,
    cells: columns::cells,
    grace_seconds,
    schema: "io.k8s.api.core.v1.Pod",
    types: register::<Typed>,
    ..BASE
};

fn prepare_create(pod: &mut Value) {
    meta::first_generation(pod);
    let qos = qos_class(pod.get("spec").unwrap_or(&Value::Null));
    let mut status = json!({"phase": "Pending", "qosClass": qos});
    if !pod.list_at("/spec/schedulingGates").is_empty() {
        status["conditions"] = json!([{
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }]);
    }
    if let Some(object) = pod.as_object_mut() {
        object.insert("status".into(), status);
    }
}

fn prepare_status(new: &mut Value, old: &Value) {
    meta::keep_all_but_status(new, old);
    let qos = old.pointer("/status/qosClass").cloned();
    if let (Some(status), Some(qos)) = (new.get_mut("status").and_then(Value::as_object_mut), qos) {
        status.insert("qosClass".into(), qos);
    }
}

fn selectable_fields(pod: &Value) -> Vec<(&'static str, String)> {
    let field = |name, pointer| (name, pod.str_at(pointer).to_string());
    let ips: Vec<&str> = pod
        .list_at("/status/podIPs")
        .iter()
        .map(|ip| ip.str_at("/ip"))
        .collect();
    vec![
        field("spec.nodeName", "/spec/nodeName"),
        field("spec.restartPolicy", "/spec/restartPolicy"),
        field("spec.schedulerName", "/spec/schedulerName"),
        field("spec.serviceAccountName", "/spec/serviceAccountName"),
        (
            "spec.hostNetwork",
            pod.bool_at("/spec/hostNetwork").to_string(),
        ),
        field("status.phase", "/status/phase"),
        field("status.podIP", "/status/podIP"),
        ("status.podIPs", ips.join(",")),
        field("status.nominatedNodeName", "/status/nominatedNodeName"),
    ]
}

/// A pod that runs nowhere, or no more, needs no time to end.
fn grace_seconds(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let ended = matches!(pod.str_at("/status/phase"), "Succeeded" | "Failed");
    if pod.str_at("/spec/nodeName").is_empty() || ended {
        return Some(0);
    }
    let own = || pod.opt_i64("/spec/terminationGracePeriodSeconds");
    let seconds = asked.or_else(own).unwrap_or(30);
    Some(if seconds < 0 { 1 } else { seconds })
}

#[cfg(test)]
mod tests;

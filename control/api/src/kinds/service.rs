//! Services. Cluster addresses and node ports are allocated by the server's admission, between defaulting and
//! validation.

mod columns;
mod update;
mod validation;
mod warnings;

use k8s_openapi::api::core::v1::Service as Typed;
use serde_json::{Value, json};

pub use self::validation::addresses::cluster_ips;
use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::{Resource, Subresource, Warn};
use crate::schema::register;
use crate::value::ValueExt;

pub const ROW: Resource = Resource {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    storage_prefix: "services/specs",
    subresources: &[
        Subresource::proxy("ServiceProxyOptions"),
        Subresource::status("", "v1", "Service"),
    ],
    decode: typed::<Typed>,
    default,
    prepare_create,
    prepare_update: update::prepare,
    validate_create: validation::create,
    validate_update: validation::update,
    validate_status: validation::status,
    warn: Some(Warn {
        create: warnings::of,
        update: warnings::of,
        status: warnings::of_status,
    }),
    selectable_fields: |service| {
        vec![
            (
                "spec.clusterIP",
                service.str_at("/spec/clusterIP").to_string(),
            ),
            ("spec.type", service.str_at("/spec/type").to_string()),
        ]
    },
    columns: columns::COLUMNS,
    cells: columns::cells,
    create_on_update: true,
    schema: "io.k8s.api.core.v1.Service",
    types: register::<Typed>,
    ..BASE
};

fn prepare_create(service: &mut Value) {
    if let Some(object) = service.as_object_mut() {
        object.insert("status".into(), json!({"loadBalancer": {}}));
    }
    // clusterIP is the first of clusterIPs.
    let Some(spec) = service.get_mut("spec") else {
        return;
    };
    let single = spec.str_at("/clusterIP").to_string();
    if !single.is_empty() && spec.list_at("/clusterIPs").is_empty() {
        spec["clusterIPs"] = vec![single].into();
    }
}

fn default(service: &mut Value) {
    service.default_to("spec", json!({}));
    let Some(spec) = service.get_mut("spec") else {
        return;
    };
    spec.default_to("type", "ClusterIP");
    spec.default_to("sessionAffinity", "None");
    match spec.str_at("/sessionAffinity") {
        "None" => {
            spec.remove_key("sessionAffinityConfig");
        }
        "ClientIP" if !spec.has("/sessionAffinityConfig/clientIP/timeoutSeconds") => {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
        }
        _ => {}
    }
    for port in spec.list_mut("ports") {
        port.default_to("protocol", "TCP");
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port["targetPort"] == json!(0)
            || port["targetPort"] == "";
        if unset && let Some(number) = port.get("port").cloned() {
            port["targetPort"] = number;
        }
    }
    let kind = spec.str_at("/type").to_string();
    if externally_accessible(spec) {
        spec.default_to("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        spec.default_to("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default_to("allocateLoadBalancerNodePorts", true);
        let ingress = service.pointer_mut("/status/loadBalancer/ingress");
        for entry in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
            if !entry.str_at("/ip").is_empty() {
                entry.default_to("ipMode", "VIP");
            }
        }
    }
}

/// Has addresses or ports that people outside the cluster may reach.
fn externally_accessible(spec: &Value) -> bool {
    match spec.str_at("/type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.list_at("/externalIPs").is_empty(),
        _ => false,
    }
}

/// Only there a load balancer asks which nodes have endpoints.
fn needs_health_check(spec: &Value) -> bool {
    spec.str_at("/type") == "LoadBalancer" && spec.str_at("/externalTrafficPolicy") == "Local"
}

#[cfg(test)]
mod tests;

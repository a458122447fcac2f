//! Services. Cluster addresses are allocated by the server's admission, between defaulting and validation.

mod columns;
mod validation;

use k8s_openapi::api::core::v1::Service as Typed;
use serde_json::{Value, json};

use crate::decode::typed;
use crate::registry::BASE;
use crate::resource::{Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;

pub const ROW: Resource = Resource {
    kind: "Service",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    storage_prefix: "services/specs",
    subresources: &[Subresource::status("", "v1", "Service")],
    decode: typed::<Typed>,
    default,
    prepare_create: |service| {
        if let Some(object) = service.as_object_mut() {
            object.insert("status".into(), json!({"loadBalancer": {}}));
        }
    },
    prepare_update,
    validate_create: validation::create,
    validate_update: validation::update,
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
        "ClientIP" if spec.i64_at("/sessionAffinityConfig/clientIP/timeoutSeconds") == 0 => {
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
    // clusterIP is the first of clusterIPs.
    if !spec.str_at("/clusterIP").is_empty() {
        let only = spec.str_at("/clusterIP").to_string();
        spec.default_to("clusterIPs", vec![only]);
    }
    let kind = spec.str_at("/type").to_string();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        spec.default_to("externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        spec.default_to("internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        spec.default_to("allocateLoadBalancerNodePorts", true);
    }
}

/// An update that leaves the allocated fields out keeps them.
fn prepare_update(new: &mut Value, old: &Value) {
    new.copy_key(old, "status");
    let null = Value::Null;
    let (old_spec, Some(spec)) = (old.get("spec").unwrap_or(&null), new.get_mut("spec")) else {
        return;
    };
    let (kind, before) = (
        spec.str_at("/type").to_string(),
        old_spec.str_at("/type").to_string(),
    );
    if kind == "ExternalName" {
        if before != "ExternalName" {
            for key in [
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
            ] {
                spec.remove_key(key);
            }
        }
        return;
    }
    if before == "ExternalName" {
        return;
    }
    for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = old_spec.get(key).cloned() {
            spec.default_to(key, value);
        }
    }
    // Whoever changes the one and leaves the other alone means both.
    let single = spec.str_at("/clusterIP").to_string();
    if single != old_spec.str_at("/clusterIP")
        && spec.get("clusterIPs") == old_spec.get("clusterIPs")
    {
        spec["clusterIPs"] = vec![single].into();
    }
    let ports = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    if ports && matches!(before.as_str(), "NodePort" | "LoadBalancer") {
        // A port keeps its node port by its number and protocol.
        for port in spec.list_mut("ports") {
            let same = old_spec.list_at("/ports").iter().find(|p| {
                p.get("port") == port.get("port") && p.get("protocol") == port.get("protocol")
            });
            if let Some(number) = same.and_then(|p| p.get("nodePort")).cloned()
                && port.i64_at("/nodePort") == 0
            {
                port["nodePort"] = number;
            }
        }
    }
    if !ports && matches!(before.as_str(), "NodePort" | "LoadBalancer") {
        // What only node ports need goes with them, unless the user set it anew.
        for port in spec.list_mut("ports") {
            let kept = old_spec
                .list_at("/ports")
                .iter()
                .any(|p| p.get("nodePort") == port.get("nodePort"));
            if kept {
                port.remove_key("nodePort");
            }
        }
        for key in [
            "externalTrafficPolicy",
            "healthCheckNodePort",
            "allocateLoadBalancerNodePorts",
        ] {
            spec.remove_key(key);
        }
    }
}

#[cfg(test)]
mod tests;

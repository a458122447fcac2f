//! What an update leaves unsaid: what was allocated stays, and what the new type has no use for goes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{externally_accessible, needs_health_check};
use crate::value::ValueExt;

pub(super) fn prepare(new: &mut Value, old: &Value) {
    new.copy_key(old, "status");
    let null = Value::Null;
    let (old_spec, Some(spec)) = (old.get("spec").unwrap_or(&null), new.get_mut("spec")) else {
        return;
    };
    keep_allocated(spec, old_spec);
    match_cluster_ips(spec, old_spec);
    drop_unused(spec, old_spec);
    if spec.str_at("/type") != "LoadBalancer" && new.has("/status/loadBalancer") {
        new["status"]["loadBalancer"] = json!({});
    }
}

fn has_address(spec: &Value) -> bool {
    spec.str_at("/type") != "ExternalName"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(spec.str_at("/type"), "NodePort" | "LoadBalancer")
}

fn node_ports(spec: &Value) -> BTreeSet<i64> {
    let numbers = spec.list_at("/ports").iter().map(|p| p.i64_at("/nodePort"));
    numbers.filter(|number| *number != 0).collect()
}

/// Who sends a manifest again that names no address and no node port means those the service has.
fn keep_allocated(spec: &mut Value, old: &Value) {
    if has_address(spec) && has_address(old) {
        if spec.str_at("/clusterIP").is_empty() {
            spec.copy_key(old, "clusterIP");
        }
        if spec.list_at("/clusterIPs").is_empty() {
            spec.copy_key(old, "clusterIPs");
        }
    }
    if has_node_ports(spec) && has_node_ports(old) {
        let (before, now) = (node_ports(old), node_ports(spec));
        let by_name: BTreeMap<&str, i64> = old
            .list_at("/ports")
            .iter()
            .map(|port| (port.str_at("/name"), port.i64_at("/nodePort")))
            .collect();
        for port in spec.list_mut("ports") {
            let known = by_name.get(port.str_at("/name")).copied().unwrap_or(0);
            let moved = before.contains(&known) && now.contains(&known);
            if port.i64_at("/nodePort") == 0 && known != 0 && !moved {
                port["nodePort"] = known.into();
            }
        }
    }
    if needs_health_check(spec)
        && needs_health_check(old)
        && spec.i64_at("/healthCheckNodePort") == 0
    {
        spec.copy_key(old, "healthCheckNodePort");
    }
}

/// Whoever changes clusterIP and leaves clusterIPs alone means both.
fn match_cluster_ips(spec: &mut Value, old: &Value) {
    let (now, before) = (spec.str_at("/clusterIP"), old.str_at("/clusterIP"));
    if now == before || spec.list_at("/clusterIPs") != old.list_at("/clusterIPs") {
        return;
    }
    match now.to_string() {
        cleared if cleared.is_empty() => drop(spec.remove_key("clusterIPs")),
        changed => spec["clusterIPs"] = vec![changed].into(),
    }
}

/// What the old type used, the new one does not, and the client did not change: where it was changed, validation
/// says why it may not be.
fn drop_unused(spec: &mut Value, old: &Value) {
    let same = |spec: &Value, key: &str| {
        let value = |of: &Value| of.get(key).filter(|value| !value.is_null()).cloned();
        value(spec) == value(old)
    };
    if has_address(old) && !has_address(spec) {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            spec.remove_key("clusterIP");
            spec.remove_key("clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(spec, key) {
                spec.remove_key(key);
            }
        }
    }
    if has_node_ports(old)
        && !has_node_ports(spec)
        && node_ports(old).is_superset(&node_ports(spec))
    {
        for port in spec.list_mut("ports") {
            port.remove_key("nodePort");
        }
    }
    let gone = |spec: &Value, used: fn(&Value) -> bool| used(old) && !used(spec);
    let is_balanced: fn(&Value) -> bool = |spec| spec.str_at("/type") == "LoadBalancer";
    for (key, used) in [
        (
            "healthCheckNodePort",
            needs_health_check as fn(&Value) -> bool,
        ),
        ("allocateLoadBalancerNodePorts", is_balanced),
        ("loadBalancerClass", is_balanced),
        ("externalTrafficPolicy", externally_accessible),
    ] {
        if gone(spec, used) && same(spec, key) {
            spec.remove_key(key);
        }
    }
}

#[cfg(test)]
mod tests;

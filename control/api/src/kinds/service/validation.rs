use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;
use crate::{meta, names};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn create(service: &Value) -> Vec<FieldError> {
    // Relaxed in 1.36: any RFC 1123 label, digits first as well, is a name of a service.
    let mut errors = meta::validate(service, true, names::label);
    spec(service, &mut errors);
    errors
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    let external = |s: &Value| s.str_at("/spec/type") == "ExternalName";
    if !external(new) && !external(old) {
        let (now, before) = (new.str_at("/spec/clusterIP"), old.str_at("/spec/clusterIP"));
        let path = Path::new("spec");
        if !before.is_empty() && now != before {
            let ips = new
                .pointer("/spec/clusterIPs")
                .cloned()
                .unwrap_or_else(|| vec![now].into());
            errors.push(
                path.child("clusterIPs")
                    .index(0)
                    .invalid(ips, "may not change once set"),
            );
        }
    }
    spec(new, &mut errors);
    errors
}

fn spec(service: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let null = Value::Null;
    let spec = service.get("spec").unwrap_or(&null);
    let kind = spec.str_at("/type");
    let cluster_ip = spec.str_at("/clusterIP");
    let headless = cluster_ip == "None";

    let ports_list = spec.list_at("/ports");
    if ports_list.is_empty() && !headless && kind != "ExternalName" {
        errors.push(path.child("ports").required(""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(path.child("clusterIPs").index(0).invalid("None", &detail));
        }
        "ExternalName" => {
            if !cluster_ip.is_empty() {
                errors.push(
                    path.child("clusterIPs")
                        .forbidden("may not be set for ExternalName services"),
                );
            }
            let target = spec.str_at("/externalName").trim_end_matches('.');
            if target.is_empty() {
                errors.push(path.child("externalName").required(""));
            } else {
                errors.extend(
                    names::subdomain(target)
                        .iter()
                        .map(|m| path.child("externalName").invalid(target, m)),
                );
            }
        }
        _ => {}
    }
    if kind.is_empty() {
        errors.push(path.child("type").required(""));
    } else if !TYPES.contains(&kind) {
        errors.push(path.child("type").not_supported(kind, TYPES));
    }
    ports(spec, kind, &path.child("ports"), errors);

    for (key, value) in spec.map_at("/selector").into_iter().flatten() {
        let at = path.child("selector");
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| at.invalid(key.as_str(), m)),
        );
        let value = value.as_str().unwrap_or("");
        errors.extend(
            names::label_value(value)
                .iter()
                .map(|m| at.invalid(value, m)),
        );
    }
    let affinity = spec.str_at("/sessionAffinity");
    if affinity.is_empty() {
        errors.push(path.child("sessionAffinity").required(""));
    } else if !matches!(affinity, "ClientIP" | "None") {
        errors.push(
            path.child("sessionAffinity")
                .not_supported(affinity, &["ClientIP", "None"]),
        );
    }
    if let Some(seconds) = spec.opt_i64("/sessionAffinityConfig/clientIP/timeoutSeconds")
        && !(1..=86_400).contains(&seconds)
    {
        let at = path
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        errors.push(at.invalid(seconds, "must be greater than 0 and less than 86400"));
    }
    addresses(spec, &path, errors);
    policies(spec, kind, &path, errors);
}

fn addresses(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let ips = spec.list_at("/clusterIPs");
    let first = ips.first().and_then(Value::as_str);
    let single = spec.str_at("/clusterIP");
    if let Some(first) = first
        && !single.is_empty()
        && first != single
    {
        let shown = spec.get("clusterIPs").cloned().unwrap_or(Value::Null);
        errors.push(
            path.child("clusterIPs")
                .index(0)
                .invalid(shown, "first value must match `clusterIP`"),
        );
    }
    let listed: Vec<&str> = if ips.is_empty() {
        Some(single).into_iter().collect()
    } else {
        ips.iter().filter_map(Value::as_str).collect()
    };
    for (i, ip) in listed.iter().enumerate().filter(|(_, ip)| !ip.is_empty()) {
        let valid = *ip == "None" || ip.parse::<std::net::IpAddr>().is_ok();
        if !valid {
            errors.push(path.child("clusterIPs").index(i).invalid(*ip, IP));
        }
    }
    for (i, ip) in spec
        .list_at("/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
    {
        if ip.parse::<std::net::IpAddr>().is_err() {
            errors.push(path.child("externalIPs").index(i).invalid(ip, IP));
        }
    }
}

fn policies(spec: &Value, kind: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let external = spec.str_at("/externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    let exposed =
        matches!(kind, "NodePort" | "LoadBalancer") || !spec.list_at("/externalIPs").is_empty();
    if exposed && matches!(kind, "NodePort" | "LoadBalancer") && external.is_empty() {
        errors.push(at.required(""));
    } else if !exposed && !external.is_empty() {
        errors.push(at.invalid(
            external,
            "may only be set for externally-accessible services",
        ));
    } else if !external.is_empty() && !matches!(external, "Cluster" | "Local") {
        errors.push(at.not_supported(external, &["Cluster", "Local"]));
    }
    let internal = spec.str_at("/internalTrafficPolicy");
    let at = path.child("internalTrafficPolicy");
    if internal.is_empty() {
        if matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
            errors.push(at.required(""));
        }
    } else if !matches!(internal, "Cluster" | "Local") {
        errors.push(at.not_supported(internal, &["Cluster", "Local"]));
    }
    if kind != "LoadBalancer" && spec.has("/allocateLoadBalancerNodePorts") {
        errors.push(
            path.child("allocateLoadBalancerNodePorts")
                .forbidden("may only be used when `type` is 'LoadBalancer'"),
        );
    }
}

fn ports(spec: &Value, kind: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let list = spec.list_at("/ports");
    let mut port_names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut node_ports = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = path.index(i);
        let name = port.str_at("/name");
        if name.is_empty() && list.len() > 1 {
            errors.push(at.child("name").required(""));
        } else if !name.is_empty() {
            errors.extend(
                names::label(name)
                    .iter()
                    .map(|m| at.child("name").invalid(name, m)),
            );
            if !port_names.insert(name) {
                errors.push(at.child("name").duplicate(name));
            }
        }
        let number = port.i64_at("/port");
        errors.extend(
            names::port_number(number)
                .iter()
                .map(|m| at.child("port").invalid(number, m)),
        );
        let protocol = port.str_at("/protocol");
        if protocol.is_empty() {
            errors.push(at.child("protocol").required(""));
        } else if !PROTOCOLS.contains(&protocol) {
            errors.push(at.child("protocol").not_supported(protocol, PROTOCOLS));
        }
        let target = at.child("targetPort");
        match port.get("targetPort") {
            Some(Value::String(name)) => {
                errors.extend(
                    names::port_name(name)
                        .iter()
                        .map(|m| target.invalid(name.as_str(), m)),
                );
            }
            other => {
                let number = other.and_then(Value::as_i64).unwrap_or(0);
                errors.extend(
                    names::port_number(number)
                        .iter()
                        .map(|m| target.invalid(number, m)),
                );
            }
        }
        let node_port = port.i64_at("/nodePort");
        if node_port != 0 && matches!(kind, "ClusterIP" | "ExternalName") {
            errors.push(
                at.child("nodePort")
                    .forbidden(&format!("may not be used when `type` is '{kind}'")),
            );
        }
        if node_port != 0 && !node_ports.insert((protocol, node_port)) {
            errors.push(at.child("nodePort").duplicate(node_port));
        }
        if !numbers.insert((protocol, number)) {
            let shown = serde_json::json!({"port": number, "protocol": protocol});
            errors.push(at.duplicate(shown));
        }
    }
}

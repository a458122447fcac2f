//! `kubectl get services`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::print::{AGE, NAME, age, column, labels, name, or_none, wide};
use crate::resource::Column;
use crate::value::ValueExt;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Type",
        "type determines how the Service is exposed. Defaults to ClusterIP. Valid options are ExternalName, ClusterIP, NodePort, and LoadBalancer. More info: https://kubernetes.io/docs/concepts/services-networking/service/#publishing-services-service-types",
    ),
    column(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    column(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service. These IPs are not managed by Kubernetes.",
    ),
    column(
        "Port(s)",
        "The list of ports that are exposed by this service. More info: https://kubernetes.io/docs/concepts/services-networking/service/#virtual-ips-and-service-proxies",
    ),
    AGE,
    wide(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector. If empty or not present, the service is assumed to have an external process managing its endpoints, which Kubernetes will not modify. More info: https://kubernetes.io/docs/concepts/services-networking/service/",
    ),
];

pub(super) fn cells(service: &Value, now: Timestamp) -> Vec<Value> {
    let cluster_ip = match service
        .pointer("/spec/clusterIPs/0")
        .and_then(Value::as_str)
    {
        Some(ip) => ip,
        None => service.str_at("/spec/clusterIP"),
    };
    vec![
        name(service),
        service.str_at("/spec/type").into(),
        or_none(cluster_ip),
        external(service).into(),
        ports(service),
        age(service, now),
        labels(service.pointer("/spec/selector")).into(),
    ]
}

fn external(service: &Value) -> String {
    let own = service.list_at("/spec/externalIPs").iter();
    let own: Vec<&str> = own.filter_map(Value::as_str).collect();
    let (shown, without) = match service.str_at("/spec/type") {
        "ExternalName" => return service.str_at("/spec/externalName").to_string(),
        "ClusterIP" | "NodePort" => (own, "<none>"),
        "LoadBalancer" => {
            let ingress = service.list_at("/status/loadBalancer/ingress").iter();
            // Each once and in the order of text, as Kubernetes shows them.
            let balanced: BTreeSet<&str> = ingress
                .map(|entry| match entry.str_at("/ip") {
                    "" => entry.str_at("/hostname"),
                    ip => ip,
                })
                .filter(|text| !text.is_empty())
                .collect();
            (balanced.into_iter().chain(own).collect(), "<pending>")
        }
        _ => (Vec::new(), "<unknown>"),
    };
    match shown.is_empty() {
        true => without.to_string(),
        false => shown.join(","),
    }
}

fn ports(service: &Value) -> Value {
    let shown: Vec<String> = service
        .list_at("/spec/ports")
        .iter()
        .map(|port| {
            let (number, node, protocol) = (
                port.i64_at("/port"),
                port.i64_at("/nodePort"),
                port.str_at("/protocol"),
            );
            if node > 0 {
                format!("{number}:{node}/{protocol}")
            } else {
                format!("{number}/{protocol}")
            }
        })
        .collect();
    or_none(shown.join(","))
}

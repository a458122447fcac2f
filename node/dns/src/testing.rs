//! A cluster as the watches would tell of it.

use std::collections::HashSet;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use crate::records::Records;

pub fn service(namespace: &str, name: &str, spec: &Value) -> Service {
    let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// In namespace `ns`.
pub fn slice(
    name: &str,
    service: &str,
    family: &str,
    ports: &Value,
    endpoints: &Value,
) -> EndpointSlice {
    let object = json!({
        "metadata": {
            "namespace": "ns", "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    });
    serde_json::from_value(object).unwrap()
}

pub fn services() -> Vec<Service> {
    let dns = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]);
    let web = json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"port": 81, "protocol": "UDP"},
    ]);
    let http = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let both = json!(["10.96.0.2", "fd96::2"]);
    let outside = |name: &str| json!({"type": "ExternalName", "externalName": name});
    vec![
        service(
            "kube-system",
            "kube-dns",
            &json!({"clusterIP": "10.96.0.10", "ports": dns}),
        ),
        service(
            "ns",
            "web",
            &json!({"clusterIP": "10.96.0.2", "clusterIPs": both, "ports": web}),
        ),
        service("ns", "db", &json!({"clusterIP": "None", "ports": http})),
        service("ns", "six", &json!({"clusterIP": "None"})),
        service("ns", "empty", &json!({"clusterIP": "None", "ports": http})),
        service("ns", "pending", &json!({"ports": http})),
        service("ns", "out", &outside("www.example.org")),
        service("ns", "alias", &outside("Web.ns.svc.cluster.local.")),
        service("ns", "address", &outside("192.0.2.1")),
        service("ns", "ring", &outside("ring.ns.svc.cluster.local")),
    ]
}

pub fn slices() -> Vec<EndpointSlice> {
    let port = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let web = json!([{"addresses": ["10.244.0.9"]}]);
    let db = json!([
        {"addresses": ["10.244.0.1"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.244.0.2"], "conditions": {}},
        {"addresses": ["10.244.0.3"], "hostname": "db-2", "conditions": {"ready": false}},
    ]);
    let more = json!([
        {"addresses": ["10.244.0.1"], "hostname": "db-0"},
        {"addresses": ["10.244.1.1"], "hostname": "db-0"},
    ]);
    let six = json!([{"addresses": ["fd00::6"]}]);
    let empty = json!([{"addresses": ["10.244.0.3"], "conditions": {"ready": false}}]);
    let name = json!([{"addresses": ["www.example.org"]}]);
    vec![
        slice("web-1", "web", "IPv4", &port, &web),
        slice("db-1", "db", "IPv4", &port, &db),
        slice("db-2", "db", "IPv4", &port, &more),
        slice("six-1", "six", "IPv6", &json!(null), &six),
        slice("empty-1", "empty", "IPv4", &port, &empty),
        slice("six-2", "six", "FQDN", &json!(null), &name),
    ]
}

pub fn list<K: Clone>(objects: &[K], mut tell: impl FnMut(&Event<K>)) {
    tell(&Event::Init);
    for object in objects {
        tell(&Event::InitApply(object.clone()));
    }
    tell(&Event::InitDone);
}

pub fn namespaces() -> HashSet<Box<str>> {
    ["kube-system", "ns", "bare"].map(Into::into).into()
}

pub fn records() -> Records {
    let mut records = Records::default();
    list(&services(), |event| records.service(event));
    list(&slices(), |event| records.slice(event));
    records.namespaces(Some(namespaces()));
    records
}

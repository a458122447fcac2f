//! Servers behind Services, a pod that asks them, and what is expected of the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::load::Report;
use vetch_tests::wait::patient;
use vetch_tests::{Namespace, Node, eventually};

pub const MINUTE: Duration = Duration::from_secs(60);
/// How the example's echo servers are selected.
pub const ECHO: &str = "echo";

/// An echo server of the label app=APP, with these named ports; its pod's name is what it answers.
pub fn server(name: &str, app: &str, ports: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "POD_NAME", "value": name}],
                "ports": ports,
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// The ports an echo server has, by their names in the example.
pub fn all_ports() -> Value {
    json!([
        {"name": "http", "containerPort": 8080},
        {"name": "udp", "protocol": "UDP", "containerPort": 8082},
    ])
}

/// A pod that does nothing itself.
pub fn idle(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "idle", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
            }],
        },
    })
}

pub fn service(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// One call for them all.
pub fn apply(namespace: &Namespace<'_>, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    namespace.apply(&list.to_string()).map(drop)
}

/// Waits until these pods are ready.
pub fn ready(namespace: &Namespace<'_>, pods: &[&str]) -> Result<()> {
    let limit = format!("--timeout={}s", patient(MINUTE).as_secs());
    let mut args = vec!["wait", "pod", "--for=condition=Ready", &limit];
    args.extend(pods);
    namespace.kubectl(&args)?.ok().map(drop)
}

/// Echo servers of these names and the label app=echo, and a pod that asks them.
pub fn serve(namespace: &Namespace<'_>, servers: &[&str], services: &[Value]) -> Result<Node> {
    let mut objects: Vec<Value> = servers
        .iter()
        .map(|name| server(name, ECHO, all_ports()))
        .collect();
    objects.push(idle("client"));
    objects.extend_from_slice(services);
    apply(namespace, &objects)?;
    ready(namespace, &[servers, &["client"]].concat())?;
    namespace.inside("client")
}

pub fn patch(namespace: &Namespace<'_>, name: &str, spec: &Value) -> Result<()> {
    let patch = json!({"spec": spec}).to_string();
    namespace
        .kubectl(&["patch", "service", name, "--type=merge", "--patch", &patch])?
        .ok()
        .map(drop)
}

/// What is asked of a Service: `http://10.96.0.9:80/`.
pub fn url(scheme: &str, address: &str, port: u64) -> String {
    format!("{scheme}://{address}:{port}/")
}

pub fn text(namespace: &Namespace<'_>, object: &str, pointer: &str) -> Result<String> {
    let value = namespace.field(object, pointer)?;
    Ok(value.as_str().context("no text")?.to_owned())
}

pub fn cluster_ip(namespace: &Namespace<'_>, service: &str) -> Result<String> {
    text(namespace, &format!("service/{service}"), "/spec/clusterIP")
}

pub fn node_port(namespace: &Namespace<'_>, service: &str) -> Result<u64> {
    let port = namespace.field(&format!("service/{service}"), "/spec/ports/0/nodePort")?;
    port.as_u64().context("no node port")
}

/// The Service's addresses: its own, and its node port on every node.
pub fn fronts(namespace: &Namespace<'_>, service: &str) -> Result<Vec<String>> {
    let port = node_port(namespace, service)?;
    let nodes = namespace.cluster.nodes.iter();
    let own = url("http", &cluster_ip(namespace, service)?, 80);
    Ok(nodes
        .map(|node| url("http", &node.address, port))
        .chain([own])
        .collect())
}

/// Waits until the address answers, and returns who did.
pub fn answered(from: &Node, url: &str) -> Result<String> {
    eventually(MINUTE, &format!("{url} answers"), || {
        Ok(from.requests(url, 1)?.only_pod()?.to_owned())
    })
}

/// Waits until the address answers no more.
pub fn silent(from: &Node, url: &str) -> Result<()> {
    eventually(MINUTE, &format!("{url} answers no more"), || {
        let report = from.requests(url, 1)?;
        ensure!(report.failures == 1, "answered by {:?}", report.by_pod);
        Ok(())
    })
}

/// Waits until one request after the other is as `holds` wants it.
pub fn asked(
    from: &Node,
    url: &str,
    count: u64,
    holds: impl Fn(&Report) -> Result<()>,
) -> Result<()> {
    eventually(MINUTE, url, || holds(&from.requests(url, count)?))
}

/// The ready pods of a Service's slices, with their ports.
pub fn endpoints(
    namespace: &Namespace<'_>,
    service: &str,
) -> Result<BTreeMap<String, BTreeSet<u64>>> {
    let of = format!("kubernetes.io/service-name={service}");
    let slices = namespace.get(&["endpointslices", "-l", &of])?;
    let mut found: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for slice in slices["items"].as_array().into_iter().flatten() {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let ports: Vec<u64> = ports.filter_map(|port| port["port"].as_u64()).collect();
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == true {
                let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
                found.entry(pod.to_owned()).or_default().extend(&ports);
            }
        }
    }
    Ok(found)
}

/// Waits until the Service's endpoints are these.
pub fn wait_endpoints(
    namespace: &Namespace<'_>,
    service: &str,
    wanted: &[(&str, u64)],
) -> Result<()> {
    let mut all: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (pod, port) in wanted {
        all.entry((*pod).to_owned()).or_default().insert(*port);
    }
    eventually(
        MINUTE,
        &format!("the endpoints of {service} are {all:?}"),
        || {
            let found = endpoints(namespace, service)?;
            ensure!(found == all, "they are {found:?}");
            Ok(())
        },
    )
}

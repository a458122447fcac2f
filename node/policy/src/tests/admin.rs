//! What admin policies mean, for one attempt at a time, and some made at random.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::{
    Attempt, Cluster,
    random::{BLOCKS, NAMES, PORTS, PROTOCOLS, selector},
    reference::{labels, matches},
};

/// The action of the first rule of these policies, in their order, that is about it.
pub fn verdict<'a>(
    cluster: &Cluster,
    policies: &[&'a Value],
    direction: &str,
    own: &Pod,
    other: (Option<&Pod>, IpAddr),
    server: Option<&Pod>,
    attempt: Attempt,
) -> Option<&'a str> {
    let (list, peers) = match direction {
        "Ingress" => ("ingress", "from"),
        _ => ("egress", "to"),
    };
    let selecting = policies
        .iter()
        .filter(|policy| is_one_of(cluster, &policy["spec"]["subject"], own));
    let mut rules = selecting.flat_map(|policy| policy["spec"][list].as_array().unwrap());
    let first = rules.find(|rule| {
        let mut peers = rule[peers].as_array().unwrap().iter();
        peers.any(|peer| is_peer(cluster, peer, other))
            && match &rule["ports"] {
                Value::Null => true,
                ports => {
                    let mut ports = ports.as_array().unwrap().iter();
                    ports.any(|port| is_port(port, server, attempt))
                }
            }
    });
    first.map(|rule| rule["action"].as_str().unwrap())
}

fn selects(selector: &Value, labels: Option<&std::collections::BTreeMap<String, String>>) -> bool {
    let selector: LabelSelector = serde_json::from_value(selector.clone()).unwrap();
    matches(Some(&selector), labels)
}

/// Of `namespaces` or `pods`.
fn is_one_of(cluster: &Cluster, pods: &Value, pod: &Pod) -> bool {
    let namespace = pod.metadata.namespace.as_deref();
    let mut all = cluster.namespaces.iter();
    let of = all.find(|one| one.metadata.name.as_deref() == namespace);
    let of = of.unwrap().metadata.labels.as_ref();
    match pods.get("namespaces") {
        Some(namespaces) => selects(namespaces, of),
        None => {
            let pods = &pods["pods"];
            selects(&pods["namespaceSelector"], of) && selects(&pods["podSelector"], labels(pod))
        }
    }
}

fn is_peer(cluster: &Cluster, peer: &Value, (pod, ip): (Option<&Pod>, IpAddr)) -> bool {
    if let Some(networks) = peer.get("networks") {
        let mut networks = networks.as_array().unwrap().iter();
        return networks.any(|one| {
            let net: IpNet = one.as_str().unwrap().parse().unwrap();
            net.contains(&ip)
        });
    }
    if let Some(nodes) = peer.get("nodes") {
        return cluster.nodes.iter().any(|node| {
            let status = node.status.as_ref().unwrap();
            let mut addresses = status.addresses.iter().flatten();
            selects(nodes, node.metadata.labels.as_ref())
                && addresses.any(|one| one.address == ip.to_string())
        });
    }
    pod.is_some_and(|pod| is_one_of(cluster, peer, pod))
}

fn is_port(port: &Value, server: Option<&Pod>, attempt: Attempt) -> bool {
    let number = |protocol: &Value| match protocol.as_str() {
        None | Some("TCP") => 6,
        Some("UDP") => 17,
        _ => 132,
    };
    let asked = i64::from(attempt.port);
    if let Some(name) = port["namedPort"].as_str() {
        return server.is_some_and(|pod| {
            let containers = &pod.spec.as_ref().unwrap().containers;
            let mut ports = containers.iter().flat_map(|one| one.ports.iter().flatten());
            ports.any(|one| {
                one.name.as_deref() == Some(name)
                    && number(&json!(one.protocol)) == attempt.protocol
                    && i64::from(one.container_port) == asked
            })
        });
    }
    let (port, first, last) = match port.get("portNumber") {
        Some(port) => (port, "port", "port"),
        None => (&port["portRange"], "start", "end"),
    };
    let of = |field: &str| port[field].as_i64().unwrap();
    number(&port["protocol"]) == attempt.protocol && (of(first)..=of(last)).contains(&asked)
}

fn pods(rng: &mut StdRng) -> Value {
    if rng.random_bool(0.5) {
        json!({"namespaces": selector(rng)})
    } else {
        json!({"pods": {"namespaceSelector": selector(rng), "podSelector": selector(rng)}})
    }
}

fn port(rng: &mut StdRng, with_names: bool) -> Value {
    let protocol = PROTOCOLS.choose(rng);
    match rng.random_range(0..4) {
        0 if with_names => json!({"namedPort": NAMES.choose(rng)}),
        1 => {
            let first = rng.random_range(1..9000);
            let last = first + rng.random_range(0..5000);
            json!({"portRange": {"protocol": protocol, "start": first, "end": last}})
        }
        _ => json!({"portNumber": {"protocol": protocol, "port": PORTS.choose(rng)}}),
    }
}

fn peer(rng: &mut StdRng, peers: &str) -> Value {
    match rng.random_range(0..5) {
        0 if peers == "to" => json!({"nodes": selector(rng)}),
        1 | 2 if peers == "to" => {
            let networks = [BLOCKS.choose(rng), BLOCKS.choose(rng)];
            json!({"networks": networks})
        }
        _ => pods(rng),
    }
}

fn rules(rng: &mut StdRng, peers: &str, actions: &[&str]) -> Value {
    let rule = |rng: &mut StdRng| {
        let many = rng.random_range(1..3);
        let of: Vec<Value> = (0..many).map(|_| peer(rng, peers)).collect();
        let has_name = |one: &Value| one.get("nodes").is_none() && one.get("networks").is_none();
        let with_names = of.iter().all(has_name);
        let mut rule = json!({"action": actions.choose(rng), peers: of});
        if rng.random_bool(0.6) {
            let many = rng.random_range(1..4);
            let ports: Vec<Value> = (0..many).map(|_| port(rng, with_names)).collect();
            rule["ports"] = json!(ports);
        }
        rule
    };
    let count = rng.random_range(0..4);
    (0..count).map(|_| rule(rng)).collect()
}

/// Of several one priority may be the same.
pub fn policy(rng: &mut StdRng, at: usize) -> Value {
    let actions = ["Allow", "Deny", "Pass"];
    json!({
        "metadata": {"name": format!("a{at}")},
        "spec": {
            "priority": rng.random_range(0..4),
            "subject": pods(rng),
            "ingress": rules(rng, "from", &actions),
            "egress": rules(rng, "to", &actions),
        }
    })
}

pub fn baseline(rng: &mut StdRng) -> Value {
    let actions = ["Allow", "Deny"];
    json!({
        "metadata": {"name": "default"},
        "spec": {
            "subject": pods(rng),
            "ingress": rules(rng, "from", &actions),
            "egress": rules(rng, "to", &actions),
        }
    })
}

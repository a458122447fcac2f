//! What NetworkPolicies mean, said as plainly as it can be: for one attempt at a
//! time, over the objects themselves.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde_json::Value;
use vetch_ebpf_common::PolicyType;

use super::{Attempt, Cluster, admin};

/// Whether both ends let it pass, as far as they are pods of the node.
pub fn lets(cluster: &Cluster, attempt: Attempt) -> bool {
    attempt.from == attempt.to
        || end_lets(cluster, PolicyType::Egress, attempt)
            && end_lets(cluster, PolicyType::Ingress, attempt)
}

/// One end alone.
pub fn end_lets(cluster: &Cluster, of: PolicyType, attempt: Attempt) -> bool {
    let from = pod_at(cluster, attempt.from);
    let to = pod_at(cluster, attempt.to);
    match of {
        PolicyType::Egress => end(cluster, "Egress", from, (to, attempt.to), to, attempt),
        PolicyType::Ingress => end(cluster, "Ingress", to, (from, attempt.from), to, attempt),
    }
}

fn end(
    cluster: &Cluster,
    direction: &str,
    own: Option<&Pod>,
    other: (Option<&Pod>, IpAddr),
    server: Option<&Pod>,
    attempt: Attempt,
) -> bool {
    let Some(own) = own else { return true };
    if own.spec.as_ref().unwrap().node_name.as_deref() != Some(&cluster.node) {
        return true;
    }
    let by_tier = |policies: &[&Value]| {
        let first = admin::verdict(cluster, policies, direction, own, other, server, attempt);
        first.map(str::to_owned)
    };
    let mut admin: Vec<&Value> = cluster.admin.iter().collect();
    admin.sort_by_key(|one| {
        let name = one["metadata"]["name"].as_str().unwrap();
        (one["spec"]["priority"].as_i64().unwrap(), name)
    });
    match by_tier(&admin).as_deref() {
        Some("Allow") => return true,
        Some("Deny") => return false,
        _ => {}
    }
    let isolating: Vec<&NetworkPolicy> = cluster
        .policies
        .iter()
        .filter(|policy| {
            let spec = policy.spec.as_ref().unwrap();
            policy.metadata.namespace == own.metadata.namespace
                && matches(spec.pod_selector.as_ref(), labels(own))
                && spec
                    .policy_types
                    .iter()
                    .flatten()
                    .any(|one| one == direction)
        })
        .collect();
    if isolating.is_empty() {
        let baseline: Vec<&Value> = cluster.baseline.iter().collect();
        return by_tier(&baseline).as_deref() != Some("Deny");
    }
    isolating.iter().any(|policy| {
        let spec = policy.spec.as_ref().unwrap();
        let own = policy.metadata.namespace.as_deref().unwrap();
        let rule = |peers: Option<&Vec<NetworkPolicyPeer>>,
                    ports: Option<&Vec<NetworkPolicyPort>>| {
            let peers = peers.map_or(&[][..], |peers| peers);
            let ports = ports.map_or(&[][..], |ports| ports);
            (peers.is_empty() || peers.iter().any(|peer| is_peer(cluster, own, peer, other)))
                && (ports.is_empty() || ports.iter().any(|port| is_port(port, server, attempt)))
        };
        match direction {
            "Ingress" => {
                let mut rules = spec.ingress.iter().flatten();
                rules.any(|one| rule(one.from.as_ref(), one.ports.as_ref()))
            }
            _ => {
                let mut rules = spec.egress.iter().flatten();
                rules.any(|one| rule(one.to.as_ref(), one.ports.as_ref()))
            }
        }
    })
}

fn is_peer(
    cluster: &Cluster,
    own: &str,
    peer: &NetworkPolicyPeer,
    (pod, ip): (Option<&Pod>, IpAddr),
) -> bool {
    if let Some(block) = &peer.ip_block {
        let inside = |text: &str| text.parse::<IpNet>().unwrap().contains(&ip);
        return inside(&block.cidr) && !block.except.iter().flatten().any(|one| inside(one));
    }
    let Some(pod) = pod else { return false };
    let namespace = pod.metadata.namespace.as_deref().unwrap();
    let in_namespace = match &peer.namespace_selector {
        None => namespace == own,
        Some(selector) => cluster.namespaces.iter().any(|one| {
            one.metadata.name.as_deref() == Some(namespace)
                && matches(Some(selector), one.metadata.labels.as_ref())
        }),
    };
    in_namespace
        && peer
            .pod_selector
            .as_ref()
            .is_none_or(|selector| matches(Some(selector), labels(pod)))
}

fn is_port(port: &NetworkPolicyPort, server: Option<&Pod>, attempt: Attempt) -> bool {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match protocol {
        "TCP" => 6,
        "UDP" => 17,
        _ => 132,
    };
    if number != attempt.protocol {
        return false;
    }
    let asked = i32::from(attempt.port);
    match &port.port {
        None => true,
        Some(IntOrString::Int(first)) => {
            (*first..=port.end_port.unwrap_or(*first)).contains(&asked)
        }
        Some(IntOrString::String(name)) => server.is_some_and(|pod| {
            let containers = &pod.spec.as_ref().unwrap().containers;
            let mut ports = containers.iter().flat_map(|one| one.ports.iter().flatten());
            ports.any(|one| {
                one.name.as_ref() == Some(name)
                    && one.protocol.as_deref().unwrap_or("TCP") == protocol
                    && one.container_port == asked
            })
        }),
    }
}

/// A pod in its node's network is its node.
fn pod_at(cluster: &Cluster, ip: IpAddr) -> Option<&Pod> {
    cluster.pods.iter().find(|pod| {
        let status = pod.status.as_ref().unwrap();
        let mut ips = status.pod_ips.iter().flatten();
        pod.spec.as_ref().unwrap().host_network != Some(true)
            && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
            && ips.any(|one| one.ip == ip.to_string())
    })
}

pub fn labels(pod: &Pod) -> Option<&BTreeMap<String, String>> {
    pod.metadata.labels.as_ref()
}

pub fn matches(
    selector: Option<&LabelSelector>,
    labels: Option<&BTreeMap<String, String>>,
) -> bool {
    let Some(selector) = selector else {
        return true;
    };
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    let exact = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    exact
        .into_iter()
        .all(|(key, value)| label(key) == Some(value))
        && expressions.all(|one| {
            let found = label(&one.key);
            let listed = found.is_some_and(|value| one.values.iter().flatten().any(|v| v == value));
            match one.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                other => panic!("{other}"),
            }
        })
}

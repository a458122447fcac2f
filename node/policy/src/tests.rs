//! The compiler, the numbers and the programs' own way to look things up, against
//! what the API says.

mod admin;
mod random;
mod reference;
mod tables;
mod tiers;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Node as ApiNode, Pod as ApiPod},
    networking::v1::NetworkPolicy,
};
use serde_json::Value;
use vetch_ebpf_common::{Address, PolicyType, RuleSet, policy::permits};

use crate::{AdminPolicy, Contents, Node, Pod, PodRef, Policy, World, compile, number};

/// What the API server has, and a node of it.
#[derive(Clone, Debug, Default)]
struct Cluster {
    node: String,
    policies: Vec<NetworkPolicy>,
    admin: Vec<Value>,
    baseline: Option<Value>,
    nodes: Vec<ApiNode>,
    namespaces: Vec<Namespace>,
    pods: Vec<ApiPod>,
}

/// What somebody sends: a new conversation with somebody.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    port: u16,
}

impl Cluster {
    /// As the node's daemon knows it; its pods are attached.
    fn world(&self) -> World {
        let name = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            let of = |text: &Option<String>| text.clone().unwrap_or_default();
            (of(&metadata.namespace), of(&metadata.name))
        };
        let mut local = BTreeMap::new();
        for pod in &self.pods {
            let read = Pod::read(pod);
            if read.node == self.node && read.is_peer() {
                let (namespace, name) = name(&pod.metadata);
                let uid = read.uid;
                let owner = PodRef {
                    namespace,
                    name,
                    uid,
                };
                local.extend(read.ips.iter().map(|ip| (*ip, Some(owner.clone()))));
            }
        }
        let namespaces = self.namespaces.iter().map(|one| {
            let labels = one.metadata.labels.clone().unwrap_or_default();
            (name(&one.metadata).1, Arc::new(labels))
        });
        let policies = self.policies.iter();
        let admin = self.admin.iter().map(|one| {
            let name = one["metadata"]["name"].as_str().unwrap().to_owned();
            (name, Arc::new(AdminPolicy::read(&one["spec"])))
        });
        let baseline = self.baseline.as_ref();
        let nodes = self.nodes.iter();
        let pods = self.pods.iter();
        World {
            node: self.node.clone(),
            policies: policies
                .map(|one| (name(&one.metadata), Arc::new(Policy::read(one))))
                .collect(),
            admin: admin.collect(),
            baseline: baseline.map(|one| Arc::new(AdminPolicy::read(&one["spec"]))),
            nodes: nodes
                .map(|one| (name(&one.metadata).1, Arc::new(Node::read(one))))
                .collect(),
            namespaces: namespaces.collect(),
            pods: pods
                .map(|one| (name(&one.metadata), Arc::new(Pod::read(one))))
                .collect(),
            local,
        }
    }

    fn contents(&self, before: &Contents) -> Contents {
        number(&compile(&self.world()), before)
    }
}

/// As the programs judge the first packet, at the links of this node's pods.
fn lets(contents: &Contents, attempt: Attempt) -> bool {
    attempt.from == attempt.to
        || end_lets(contents, PolicyType::Egress, attempt)
            && end_lets(contents, PolicyType::Ingress, attempt)
}

/// One end alone.
fn end_lets(contents: &Contents, of: PolicyType, attempt: Attempt) -> bool {
    let (pod, peer) = match of {
        PolicyType::Egress => (attempt.from, attempt.to),
        PolicyType::Ingress => (attempt.to, attempt.from),
    };
    let numbers = contents.pods.get(&pod).copied().unwrap_or_default();
    let Some(set) = RuleSet::new(of, numbers[of as usize]) else {
        return true;
    };
    let port = attempt.port.to_be_bytes();
    permits(contents, set, &Address::from(peer), attempt.protocol, port)
}

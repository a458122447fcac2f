//! Administrators' policies with all that is the same for every pod: found out once, for there may be many
//! pods and nodes.

use std::collections::BTreeSet;

use ipnet::IpNet;
use vetch_ebpf_common::PolicyType;

use crate::{AdminPolicy, AdminRule, PeerSpec, RuleSpec, World};

/// Administrators' policies, the same for every pod.
pub struct Admin<'a> {
    /// AdminNetworkPolicies in the order in which they are asked.
    pub policies: Vec<Known<'a>>,
    pub baseline: Option<Known<'a>>,
}

impl<'a> Admin<'a> {
    pub fn of(world: &'a World) -> Self {
        let all = world.admin.iter();
        let mut policies: Vec<_> = all.map(|(name, one)| Known::of(world, name, one)).collect();
        policies.sort_by_key(|one| (one.policy.priority, one.name));
        let baseline = world.baseline.as_ref();
        Self {
            policies,
            baseline: baseline.map(|one| Known::of(world, "default", one)),
        }
    }
}

/// A policy whose rules have the nodes that they are about.
pub struct Known<'a> {
    pub name: &'a str,
    pub policy: &'a AdminPolicy,
    ingress: Vec<RuleSpec>,
    egress: Vec<RuleSpec>,
}

impl<'a> Known<'a> {
    fn of(world: &World, name: &'a str, policy: &'a AdminPolicy) -> Self {
        let known = |rules: &[AdminRule]| {
            let rules = rules.iter();
            rules.map(|one| with_nodes(world, &one.rule)).collect()
        };
        Self {
            name,
            policy,
            ingress: known(&policy.ingress),
            egress: known(&policy.egress),
        }
    }

    /// Of a direction, with what else is said of them.
    pub fn rules(&self, of: PolicyType) -> impl Iterator<Item = (&AdminRule, &RuleSpec)> {
        let (said, known) = match of {
            PolicyType::Ingress => (&self.policy.ingress, &self.ingress),
            PolicyType::Egress => (&self.policy.egress, &self.egress),
        };
        said.iter().zip(known)
    }
}

/// With the addresses of the nodes that it is about; of none of them it is nobody.
fn with_nodes(world: &World, rule: &RuleSpec) -> RuleSpec {
    let mut peers = BTreeSet::new();
    for peer in &rule.peers {
        let PeerSpec::Nodes(selector) = peer else {
            peers.insert(peer.clone());
            continue;
        };
        let nodes = world.nodes.values();
        let nodes = nodes.filter(|node| selector.matches(&node.labels));
        peers.extend(nodes.flat_map(|node| &node.ips).map(|ip| PeerSpec::Block {
            cidr: IpNet::from(*ip),
            except: BTreeSet::new(),
        }));
        peers.insert(PeerSpec::Nobody);
    }
    RuleSpec {
        peers,
        ports: rule.ports.clone(),
    }
}

//! Policies and pods, as far as they decide what passes.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use vetch_ebpf_common::Protocol;

use crate::{Labels, Selector};

/// A NetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Of its pods; an empty one selects all of its namespace.
    pub selector: Selector,
    /// The rules of a direction that it isolates its pods in.
    pub ingress: Option<Vec<RuleSpec>>,
    pub egress: Option<Vec<RuleSpec>>,
}

/// An AdminNetworkPolicy, or the BaselineAdminNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminPolicy {
    /// The lowest is asked first; of equal ones the name that is first. The baseline
    /// has none.
    pub priority: i32,
    /// Namespaces and pods; None for nobody.
    pub subject: Option<(Selector, Selector)>,
    /// In order: the first that matches decides.
    pub ingress: Vec<AdminRule>,
    pub egress: Vec<AdminRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminRule {
    pub name: String,
    pub action: Action,
    pub rule: RuleSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Allow,
    Deny,
    /// On to NetworkPolicies and the baseline.
    Pass,
}

/// Of the cluster, this one too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub labels: Labels,
    pub ips: BTreeSet<IpAddr>,
}

/// What a rule lets pass, or an admin policy's is about: every one of its ports with
/// every one of its peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Empty for anybody.
    pub peers: BTreeSet<PeerSpec>,
    /// Empty for everything, other protocols than those with ports too.
    pub ports: BTreeSet<PortSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSpec {
    /// Pods that are not in their node's network.
    Pods {
        namespaces: Namespaces,
        selector: Selector,
    },
    /// Whoever has the address, pods too.
    Block {
        cidr: IpNet,
        except: BTreeSet<IpNet>,
    },
    /// Whoever has a node's address.
    Nodes(Selector),
    /// A peer that says nothing, or nothing that can be read.
    Nobody,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespaces {
    /// The policy's.
    One(String),
    Matching(Selector),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortSpec {
    pub protocol: Protocol,
    pub port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    All,
    /// From the first to the last, both included.
    Range(u16, u16),
    /// Of the pod that is spoken to.
    Named(String),
    /// A range that ends before it begins, or a number that is no port.
    None,
}

/// Which API object a sandbox is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    /// On its node: of a static pod not its mirror's.
    pub uid: String,
    pub labels: Arc<Labels>,
    pub ips: Vec<IpAddr>,
    pub node: String,
    /// Those that have a name.
    pub ports: Arc<[PodPort]>,
    pub host_network: bool,
    /// Succeeded or failed: its addresses may be another's.
    pub over: bool,
    /// RFC 3339, so that later is greater: of two with one address the later has it.
    pub created: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodPort {
    pub name: String,
    pub protocol: u8,
    pub number: u16,
}

impl Pod {
    /// Whether selectors are about it, and its addresses its own.
    pub fn is_peer(&self) -> bool {
        !self.host_network && !self.over
    }

    /// The ports that have the name, in every container that has one.
    pub fn named<'a>(
        &'a self,
        protocol: Protocol,
        name: &'a str,
    ) -> impl Iterator<Item = u16> + 'a {
        let ports = self.ports.iter();
        ports
            .filter(move |port| port.protocol == protocol as u8 && port.name == name)
            .map(|port| port.number)
    }
}

//! The netfilter rules that kube-proxy 1.36 lays for Services, made without
//! kube-proxy, so that its two modes can be measured beside Vetch; and a
//! runner for the real program.
//!
//! [`script`] decides (it is pure), [`Namespace`] does, in one network
//! namespace. What is laid is the defaults of both modes for Services without
//! session affinity, source ranges, external addresses and `Local` policies.
//!
//! Three things kube-proxy does are left out, since no packet of a measurement
//! meets them: `route_localnet` (NodePorts on 127.0.0.1 in iptables mode), the
//! IPv6 half, and health check ports. Compared with the real thing: nftables
//! mode with what a node with kube-proxy 1.36.2 lists (NodePorts excepted, it
//! had none), iptables mode with a kube-proxy 1.30.5 run beside it, rule by
//! rule: they differ in the order of Services, which is random there, and in
//! the nfacct counters, which 1.30 had not yet.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

mod accounting;
mod enter;
mod iptables;
mod kube_proxy;
mod names;
mod namespace;
mod nftables;
mod parts;
mod program;

pub use kube_proxy::KubeProxy;
pub use namespace::{Namespace, version};
pub use program::Error;

/// The bit of a packet's mark that asks for masquerading: kube-proxy's default
/// `--iptables-masquerade-bit=14`.
const MASQUERADE: &str = "0x4000";

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Empty when the Service's only port has no name.
    pub port_name: String,
    pub protocol: Protocol,
    pub cluster_ip: Ipv4Addr,
    pub port: u16,
    pub node_port: Option<u16>,
    pub endpoints: Vec<SocketAddrV4>,
}

impl Service {
    /// `namespace/name:port`, as kube-proxy writes it in comments.
    fn full_name(&self) -> String {
        let separator = if self.port_name.is_empty() { "" } else { ":" };
        format!(
            "{}/{}{separator}{}",
            self.namespace, self.name, self.port_name
        )
    }

    /// In kube-proxy's order, which is that of their text.
    fn sorted_endpoints(&self) -> Vec<SocketAddrV4> {
        let mut endpoints = self.endpoints.clone();
        endpoints.sort_by_cached_key(ToString::to_string);
        endpoints
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What the rules depend on besides the Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Who is in it counts as a pod and is not masqueraded on the way to a
    /// ClusterIP: kube-proxy's `--cluster-cidr`.
    pub pod_cidr: Ipv4Net,
    /// The node's own addresses. NodePorts answer on them in nftables mode; in
    /// iptables mode they answer on every local address.
    pub addresses: Vec<Ipv4Addr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Iptables,
    Nftables,
}

/// What kube-proxy asks the kernel before it writes rules in iptables mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// There are nfacct counters: kube-proxy then counts what it drops, and
    /// gives each NodePort a second rule for 127.0.0.0/8.
    pub accounting: bool,
    /// `nf_conntrack_tcp_be_liberal`: no rule drops INVALID packets.
    pub tcp_be_liberal: bool,
}

/// The input of `iptables-restore --noflush` or `nft -f -` that lays the rules
/// of `services` where none of them are, for a kernel without `Features`.
///
/// In iptables mode the rules of KUBE-SERVICES keep the order of `services`:
/// kube-proxy writes them in the random order of a Go map, so a caller that
/// measures one of N chooses its place.
pub fn script(mode: Mode, node: &Node, services: &[Service]) -> String {
    script_for(mode, node, services, Features::default())
}

/// As [`script`], for a kernel with `features`.
pub fn script_for(mode: Mode, node: &Node, services: &[Service], features: Features) -> String {
    match mode {
        Mode::Iptables => iptables::script(services, &node.pod_cidr, features),
        Mode::Nftables => nftables::script(services, node),
    }
}

/// The input of the same program that removes what [`script`] laid, and
/// nothing else. In iptables mode that depends on what is there: `saved` is
/// the output of `iptables-save` (in nftables mode it is not looked at). None
/// when there is nothing to remove.
pub fn removal(mode: Mode, saved: &str) -> Option<String> {
    match mode {
        Mode::Iptables => iptables::removal(saved),
        Mode::Nftables => Some(nftables::removal("ip")),
    }
}

//! The other nodes: from where packets in tunnels may come, and which backends
//! can be reached by one. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// What a Node says of itself; what does not parse is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// `InternalIP`, which is what nodes have as their source.
    pub addresses: BTreeSet<IpAddr>,
    /// `spec.podCIDRs`. An endpoint outside them may be a process of the node,
    /// or nothing of the cluster's: nobody there would open a tunnel's packet.
    pub pods: BTreeSet<IpNet>,
}

impl Peer {
    pub fn read(node: &Node) -> Self {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let internal = addresses
            .into_iter()
            .flatten()
            .filter(|address| address.type_ == "InternalIP");
        let spec = node.spec.as_ref();
        let many = spec.and_then(|spec| spec.pod_cidrs.as_ref());
        let one = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let cidrs = many.into_iter().flatten().chain(one);
        Self {
            addresses: internal
                .filter_map(|address| address.address.parse().ok())
                .map(|address: IpAddr| address.to_canonical())
                .collect(),
            pods: cidrs
                .filter_map(|cidr| cidr.parse().ok())
                .map(|cidr: IpNet| cidr.trunc())
                .collect(),
        }
    }

    /// Of many what they have together.
    pub fn all<'a>(peers: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for peer in peers {
            all.addresses.extend(&peer.addresses);
            all.pods.extend(&peer.pods);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn peer(addresses: &[&str], pods: &[&str]) -> Peer {
        Peer {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            pods: pods.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_nodes_say() {
        let internal = |ip: &str| json!({"type": "InternalIP", "address": ip});
        let table: [(&str, Value, Peer); 6] = [
            ("nothing yet", json!({}), peer(&[], &[])),
            (
                "one family",
                json!({
                    "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
                    "status": {"addresses": [internal("192.0.2.1")]}
                }),
                peer(&["192.0.2.1"], &["10.244.1.0/24"]),
            ),
            (
                "both",
                json!({
                    "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
                    "status": {"addresses": [internal("192.0.2.1"), internal("fd00::1")]}
                }),
                peer(&["192.0.2.1", "fd00::1"], &["10.244.1.0/24", "fd00:1::/64"]),
            ),
            (
                "an old field alone",
                json!({"spec": {"podCIDR": "10.244.1.0/24"}}),
                peer(&[], &["10.244.1.0/24"]),
            ),
            (
                "other addresses are not its source",
                json!({"status": {"addresses": [
                    {"type": "ExternalIP", "address": "198.51.100.1"},
                    {"type": "Hostname", "address": "192.0.2.9"}
                ]}}),
                peer(&[], &[]),
            ),
            (
                "mapped, with bits of a host, and not parsed",
                json!({
                    "spec": {"podCIDRs": ["10.244.1.7/24", "everything"]},
                    "status": {"addresses": [internal("::ffff:192.0.2.1"), internal("here")]}
                }),
                peer(&["192.0.2.1"], &["10.244.1.0/24"]),
            ),
        ];
        for (what, object, expected) in table {
            let node: Node = serde_json::from_value(object).unwrap();
            assert_eq!(Peer::read(&node), expected, "{what}");
        }
        let both = [
            peer(&["192.0.2.1"], &["10.244.1.0/24"]),
            peer(&["192.0.2.2"], &[]),
        ];
        let together = peer(&["192.0.2.1", "192.0.2.2"], &["10.244.1.0/24"]);
        assert_eq!(Peer::all(both.iter()), together);
    }
}

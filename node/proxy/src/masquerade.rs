//! Whom pods reach with their own address, and as whom all others see them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    str::FromStr,
};

use ipnet::IpNet;
use vetch_ebpf_common::Sources;

use crate::peers::Peer;

/// Whether what pods send out of the cluster goes with the node's address. Conversations that
/// began so end where it is turned off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masquerade {
    #[default]
    On,
    Off,
}

impl FromStr for Masquerade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("on or off".into()),
        }
    }
}

/// What is the cluster's, every node's pods and the nodes themselves, and what the node's owner has
/// named. As few ranges as say the same.
pub fn keeps_source(cluster: &Peer, named: &[IpNet]) -> BTreeSet<IpNet> {
    let nodes = cluster.addresses.iter().map(|ip| IpNet::from(*ip));
    let ranges = cluster.pods.iter().chain(named).map(IpNet::trunc);
    let all: Vec<IpNet> = ranges.chain(nodes).collect();
    IpNet::aggregate(&all).into_iter().collect()
}

/// Of each uplink an address of either family that it has: the node's own, if that is one of them.
/// With none there, it is the node's all the same, which the programs know.
pub fn sources(
    uplinks: &BTreeMap<u32, BTreeSet<IpAddr>>,
    node_ips: &[IpAddr],
) -> BTreeMap<u32, Sources> {
    let of = |addresses: &BTreeSet<IpAddr>| {
        let mut sources = Sources::NONE;
        for v4 in [true, false] {
            let mut own = addresses.iter().filter(|ip| ip.is_ipv4() == v4);
            let node = node_ips
                .iter()
                .find(|ip| ip.is_ipv4() == v4 && addresses.contains(ip));
            if let Some(ip) = node.or_else(|| own.next()) {
                sources = sources.with((*ip).into());
            }
        }
        sources
    };
    uplinks
        .iter()
        .map(|(ifindex, addresses)| (*ifindex, of(addresses)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: FromStr<Err: std::fmt::Debug>, C: FromIterator<T>>(all: &[&str]) -> C {
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn on_or_off() {
        for (word, mode) in [
            ("on", Some(Masquerade::On)),
            ("off", Some(Masquerade::Off)),
            ("true", None),
            ("", None),
        ] {
            assert_eq!(word.parse().ok(), mode, "{word}");
        }
    }

    #[test]
    fn the_cluster_and_what_was_named() {
        let table: [(&str, [&[&str]; 3], &[&str]); 5] = [
            ("nothing yet", [&[], &[], &[]], &[]),
            (
                "both families",
                [
                    &["192.0.2.1", "fd00::1"],
                    &["10.244.1.0/24", "fd01:1::/64"],
                    &[],
                ],
                &[
                    "10.244.1.0/24",
                    "192.0.2.1/32",
                    "fd00::1/128",
                    "fd01:1::/64",
                ],
            ),
            (
                "neighbours are one range",
                [&[], &["10.244.0.0/24", "10.244.1.0/24"], &[]],
                &["10.244.0.0/23"],
            ),
            (
                "named ones, with bits of a host",
                [&["192.0.2.1"], &[], &["192.0.2.7/24", "::/0"]],
                &["192.0.2.0/24", "::/0"],
            ),
            (
                "everything is excluded",
                [&["192.0.2.1"], &["10.244.1.0/24"], &["0.0.0.0/0"]],
                &["0.0.0.0/0"],
            ),
        ];
        for (what, [nodes, pods, named], expected) in table {
            let cluster = Peer {
                addresses: parse(nodes),
                pods: parse(pods),
            };
            let named: Vec<IpNet> = parse(named);
            let ranges: Vec<String> = keeps_source(&cluster, &named)
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(ranges, expected, "{what}");
        }
    }

    #[test]
    fn the_uplinks_own_address() {
        let table: [(&str, &[&str], &[&str], [Option<&str>; 2]); 5] = [
            (
                "the node's",
                &["192.0.2.1", "192.0.2.9", "fd00::1", "fd00::9"],
                &["192.0.2.9", "fd00::9"],
                [Some("192.0.2.9"), Some("fd00::9")],
            ),
            (
                "of another uplink",
                &["198.51.100.3", "198.51.100.4"],
                &["192.0.2.9"],
                [Some("198.51.100.3"), None],
            ),
            ("none", &[], &["192.0.2.9"], [None, None]),
            (
                "one family",
                &["fd00::1"],
                &["192.0.2.9"],
                [None, Some("fd00::1")],
            ),
            (
                "the node's of one family, the link's of the other",
                &["192.0.2.1", "192.0.2.9", "fd00::1"],
                &["192.0.2.9"],
                [Some("192.0.2.9"), Some("fd00::1")],
            ),
        ];
        for (what, addresses, node, expected) in table {
            let uplinks = BTreeMap::from([(7, parse(addresses))]);
            let node: Vec<IpAddr> = parse(node);
            let found = sources(&uplinks, &node)[&7];
            let found = [found.of(true), found.of(false)].map(|ip| ip.map(IpAddr::from));
            let expected = expected.map(|ip| ip.map(|ip| ip.parse().unwrap()));
            assert_eq!(found, expected, "{what}");
        }
    }
}

//! Nodes that claim one thing: the one that was there first has it. Pure.
//!
//! Kubernetes gives ranges and takes addresses as nodes say them; what people write into Nodes, and machines that are
//! copies of others, are what this is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use vetch_network::Peer;

/// A node, and since when there is its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub peer: Peer,
    pub since: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Was there first.
    pub first: String,
    pub second: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The first one's range, and the second's.
    Pods(IpNet, IpNet),
    Address(IpAddr),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict {
            first,
            second,
            what,
        } = self;
        match what {
            What::Pods(theirs, own) => write!(
                f,
                "podCIDR {own} of node {second} overlaps with {theirs} of node {first}, which was there first: \
                 pods there are {first}'s"
            ),
            What::Address(ip) => write!(
                f,
                "node {second} has the address {ip}, and so has node {first}: give one of them another, or delete \
                 the Node that is no more"
            ),
        }
    }
}

/// The nodes with what is theirs, and what is claimed twice. A range that another has is left out. An address is not:
/// of two Nodes with one, the first is most often a machine's from before it had its present name.
pub fn settle(mut nodes: Vec<&Known>) -> (Vec<Peer>, BTreeSet<Conflict>) {
    nodes.sort_by_key(|node| (node.since, &node.peer.name));
    let mut ranges: BTreeMap<IpAddr, (IpNet, &str)> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let mut peers = Vec::new();
    let mut conflicts = BTreeSet::new();
    for Known { peer, .. } in nodes {
        let mut conflict = |first: &str, what| {
            conflicts.insert(Conflict {
                first: first.to_owned(),
                second: peer.name.clone(),
                what,
            });
        };
        let mut own = peer.clone();
        own.pod_cidrs.retain(|cidr| {
            let cidr = cidr.trunc();
            match holder(&ranges, cidr) {
                Some((_, name)) if name == peer.name => true,
                Some((theirs, name)) => {
                    conflict(name, What::Pods(theirs, cidr));
                    false
                }
                None => {
                    ranges.insert(cidr.network(), (cidr, &peer.name));
                    true
                }
            }
        });
        for ip in &peer.node_ips {
            match addresses.get(ip) {
                Some(name) => conflict(name, What::Address(*ip)),
                None => {
                    addresses.insert(*ip, &peer.name);
                }
            }
        }
        if !own.pod_cidrs.is_empty() {
            peers.push(own);
        }
    }
    (peers, conflicts)
}

/// Whose range overlaps. Those that are held do not overlap with each other.
fn holder<'a>(
    ranges: &BTreeMap<IpAddr, (IpNet, &'a str)>,
    cidr: IpNet,
) -> Option<(IpNet, &'a str)> {
    let before = ranges.range(..=cidr.network()).next_back();
    let around = before.filter(|(_, (theirs, _))| theirs.contains(&cidr.network()));
    let within = || {
        let behind = ranges.range(cidr.network()..).next();
        behind.filter(|(network, _)| cidr.contains(*network))
    };
    around.or_else(within).map(|(_, held)| *held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, since: Option<i64>, cidrs: &str, ips: &str) -> Known {
        Known {
            peer: Peer {
                name: name.into(),
                pod_cidrs: cidrs
                    .split_whitespace()
                    .map(|cidr| cidr.parse().unwrap())
                    .collect(),
                node_ips: ips
                    .split_whitespace()
                    .map(|ip| ip.parse().unwrap())
                    .collect(),
            },
            since: since.map(|second| Timestamp::from_second(second).unwrap()),
        }
    }

    #[test]
    fn who_was_there_first_has_it() {
        let both = "10.244.1.0/24 fd00:1::/64";
        let table: [(&str, Vec<Known>, &[&str], &[&str]); 7] = [
            (
                "each its own",
                vec![
                    known("b", Some(1), both, "172.30.0.2 fd00::2"),
                    known(
                        "a",
                        Some(2),
                        "10.244.2.0/24 fd00:2::/64",
                        "172.30.0.3 fd00::3",
                    ),
                ],
                &["b 10.244.1.0/24,fd00:1::/64", "a 10.244.2.0/24,fd00:2::/64"],
                &[],
            ),
            (
                "one range",
                vec![
                    known("a", Some(2), both, "172.30.0.3"),
                    known("b", Some(1), "10.244.1.0/24", "172.30.0.2"),
                ],
                &["b 10.244.1.0/24", "a fd00:1::/64"],
                &["b a 10.244.1.0/24 10.244.1.0/24"],
            ),
            (
                "a part of another's",
                vec![
                    known("a", Some(1), "10.244.0.0/16", "172.30.0.2"),
                    known("b", Some(2), "10.244.7.0/24", "172.30.0.3"),
                ],
                &["a 10.244.0.0/16"],
                &["a b 10.244.0.0/16 10.244.7.0/24"],
            ),
            (
                "another's is a part of it",
                vec![
                    known("a", Some(1), "10.244.7.0/24", "172.30.0.2"),
                    known("b", Some(2), "10.244.9.9/16", "172.30.0.3"),
                    known("c", Some(3), "10.245.0.0/24", "172.30.0.4"),
                ],
                &["a 10.244.7.0/24", "c 10.245.0.0/24"],
                &["a b 10.244.7.0/24 10.244.0.0/16"],
            ),
            (
                "of one time the first by name",
                vec![
                    known("b", Some(1), "10.244.7.0/24", "172.30.0.3"),
                    known("a", Some(1), "10.244.7.0/24", "172.30.0.2"),
                ],
                &["a 10.244.7.0/24"],
                &["a b 10.244.7.0/24 10.244.7.0/24"],
            ),
            (
                "an address is shared, and nobody is left out for it",
                vec![
                    known("old", Some(1), "10.244.1.0/24", "172.30.0.2"),
                    known("new", Some(2), "10.244.2.0/24", "172.30.0.2"),
                ],
                &["old 10.244.1.0/24", "new 10.244.2.0/24"],
                &["old new 172.30.0.2"],
            ),
            (
                "a node with itself",
                vec![known(
                    "a",
                    None,
                    "10.244.1.0/24 10.244.1.0/24",
                    "172.30.0.2",
                )],
                &["a 10.244.1.0/24,10.244.1.0/24"],
                &[],
            ),
        ];
        for (what, nodes, peers, conflicts) in table {
            let (settled, found) = settle(nodes.iter().collect());
            let settled: Vec<String> = settled
                .iter()
                .map(|peer| {
                    let cidrs = peer.pod_cidrs.iter().map(ToString::to_string);
                    format!("{} {}", peer.name, cidrs.collect::<Vec<_>>().join(","))
                })
                .collect();
            assert_eq!(settled, peers, "{what}");
            let found: Vec<String> = found
                .iter()
                .map(
                    |Conflict {
                         first,
                         second,
                         what,
                     }| match what {
                        What::Pods(theirs, own) => format!("{first} {second} {theirs} {own}"),
                        What::Address(ip) => format!("{first} {second} {ip}"),
                    },
                )
                .collect();
            assert_eq!(found, conflicts, "{what}");
        }
    }
}

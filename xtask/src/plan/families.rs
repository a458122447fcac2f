//! The cluster's address families. IPv6's networks follow from IPv4's, whose digits they show, so that
//! clusters beside each other share none:
//!
//! ```text
//! nodes     172.30.0.0/24   fd00:172:30::/80       node-1: 172.30.0.2, fd00:172:30::2
//! pods      10.244.0.0/16   fd00:10:244::/56       a /64 a node
//! Services  10.96.0.0/16    fd00:10:96::/112
//! ```
//! etcd, and the way of nodes to the API server, are of IPv4 whatever pods are of.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use clap::ValueEnum;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{NODE_MASK, load_balancer_pool};
use crate::state::State;

const NODES_PREFIX: u8 = 80;
/// Of the pods of one node.
const NODE_PREFIX: u8 = 64;
const SERVICES_PREFIX: u8 = 112;
/// Behind all that IPv4 has room for: where load balancers' addresses begin among the nodes', and how many.
const POOL: (u128, u128) = (1 << 32, 16);

/// What pods, Services and nodes have addresses of, as kind's `ipFamily`. The default is what clusters
/// from before there was a choice are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    #[default]
    Ipv4,
    Ipv6,
    /// Both, and IPv4 first.
    Dual,
}

impl IpFamily {
    pub fn has_v6(self) -> bool {
        self != IpFamily::Ipv4
    }

    /// Of one thing's addresses those that the cluster uses, the main one first.
    fn of<T>(self, v4: impl Into<T>, v6: impl Into<T>) -> Vec<T> {
        match self {
            IpFamily::Ipv4 => vec![v4.into()],
            IpFamily::Ipv6 => vec![v6.into()],
            IpFamily::Dual => vec![v4.into(), v6.into()],
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            IpFamily::Ipv4 => "ipv4",
            IpFamily::Ipv6 => "ipv6",
            IpFamily::Dual => "dual",
        })
    }
}

pub fn pod_cidrs(state: &State) -> Vec<IpNet> {
    // As many nodes as IPv4 has room for.
    let bits = NODE_MASK.saturating_sub(state.pod_cidr.prefix_len());
    let v6 = like(state.pod_cidr, NODE_PREFIX - bits);
    state.ip_family.of(state.pod_cidr, v6)
}

pub fn service_cidrs(state: &State) -> Vec<IpNet> {
    let v6 = like(state.service_cidr, SERVICES_PREFIX);
    state.ip_family.of(state.service_cidr, v6)
}

/// The network of IPv6 of a link of the nodes; `segment` starts at 0.
pub fn subnet_v6(state: &State, segment: u32) -> Ipv6Net {
    like(state.segments().network(segment), NODES_PREFIX)
}

/// By which others know a node; `number` starts at 1.
pub fn node_ips(state: &State, number: u32) -> Vec<IpAddr> {
    if let Some(moved) = state.moved.get(&format!("node-{number}")) {
        return moved.clone();
    }
    let segments = state.segments();
    let (segment, v4) = (segments.of_node(number), segments.node_address(number));
    let place = v4.to_bits() - segments.network(segment).network().to_bits();
    let v6 = nth(subnet_v6(state, segment), place.into());
    state.ip_family.of(v4, v6)
}

/// By which pods know the machine, and Services the API server.
pub fn machine_ips(state: &State) -> Vec<IpAddr> {
    let v6 = nth(subnet_v6(state, 0), 1);
    state.ip_family.of(state.segments().machine_address(), v6)
}

/// By whom the other links are reached, where there are some and the cluster has IPv6.
pub fn router_v6(state: &State, segment: u32) -> Option<Ipv6Addr> {
    let is_there = state.ip_family.has_v6() && state.segments().count() > 1;
    is_there.then(|| nth(subnet_v6(state, segment), ROUTER))
}

/// Addresses for load balancers, `FIRST-LAST` of each family; none of IPv4 where nodes fill their network, and
/// none at all on several links.
pub fn pools(state: &State) -> Vec<String> {
    let (first, count) = POOL;
    let v6 = [first, first + count - 1].map(|offset| nth(subnet_v6(state, 0), offset).to_string());
    let v6 = (state.segments().count() == 1).then(|| v6.join("-"));
    let v4 = load_balancer_pool(state);
    let v4 = v4.map(|(first, last)| format!("{first}-{last}"));
    let both: Vec<Option<String>> = state.ip_family.of(v4, v6);
    both.into_iter().flatten().collect()
}

/// Behind all nodes that IPv4 has room for, before load balancers.
const ROUTER: u128 = u32::MAX as u128;

/// The network of IPv6 that shows the digits of one of IPv4.
fn like(v4: Ipv4Net, prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = v4.network().octets();
    // The fourth group of a pods' network goes on to nodes from its high byte on.
    let fourth = if prefix <= NODE_PREFIX {
        u16::from(c) << 8
    } else {
        digits(c)
    };
    let address = Ipv6Addr::new(0xfd00, digits(a), digits(b), fourth, digits(d), 0, 0, 0);
    Ipv6Net::new_assert(address, prefix).trunc()
}

/// 172 as 0x172.
fn digits(number: u8) -> u16 {
    let number = u16::from(number);
    number / 100 * 0x100 + number / 10 % 10 * 0x10 + number % 10
}

fn nth(network: Ipv6Net, offset: u128) -> Ipv6Addr {
    Ipv6Addr::from(network.network().to_bits() | offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_show_the_digits_of_ipv4s() {
        for (v4, prefix, v6) in [
            ("172.30.0.0/24", NODES_PREFIX, "fd00:172:30::/80"),
            ("172.30.77.0/24", NODES_PREFIX, "fd00:172:30:77::/80"),
            ("172.30.77.128/25", NODES_PREFIX, "fd00:172:30:77:128::/80"),
            ("10.96.0.0/16", SERVICES_PREFIX, "fd00:10:96::/112"),
            ("10.244.0.0/16", 56, "fd00:10:244::/56"),
            ("10.7.0.0/20", 60, "fd00:10:7::/60"),
            ("10.7.16.0/20", 60, "fd00:10:7:1000::/60"),
            ("10.7.18.0/24", 64, "fd00:10:7:1200::/64"),
            ("10.0.0.0/8", 48, "fd00:10::/48"),
        ] {
            assert_eq!(like(v4.parse().unwrap(), prefix).to_string(), v6, "{v4}");
        }
    }

    #[test]
    fn each_link_has_its_own_network() {
        let state = State {
            ip_family: IpFamily::Dual,
            subnets: 2,
            ..crate::plan::tests::usual()
        };
        let nodes = [1, 2, 3].map(|number| {
            let ips = node_ips(&state, number);
            format!("{} {}", ips[0], ips[1])
        });
        assert_eq!(
            nodes,
            [
                "172.30.0.2 fd00:172:30::2",
                "172.30.0.130 fd00:172:30:0:128::2",
                "172.30.0.3 fd00:172:30::3",
            ]
        );
        let routers = [0, 1].map(|segment| router_v6(&state, segment).unwrap().to_string());
        assert_eq!(
            routers,
            ["fd00:172:30::ffff:ffff", "fd00:172:30:0:128:0:ffff:ffff"]
        );
        assert_eq!(super::pools(&state), [""; 0]);
        let one = State {
            subnets: 1,
            ..state
        };
        assert_eq!(router_v6(&one, 0), None);
    }

    #[test]
    fn a_cluster_uses_what_it_was_asked_for() {
        let text = |list: Vec<String>| list.join(" ");
        for (ip_family, pods, services, node, machine, pools) in [
            (
                IpFamily::Ipv4,
                "10.244.0.0/16",
                "10.96.0.0/16",
                "172.30.0.3",
                "172.30.0.1",
                "172.30.0.239-172.30.0.254",
            ),
            (
                IpFamily::Ipv6,
                "fd00:10:244::/56",
                "fd00:10:96::/112",
                "fd00:172:30::3",
                "fd00:172:30::1",
                "fd00:172:30::1:0:0-fd00:172:30::1:0:f",
            ),
            (
                IpFamily::Dual,
                "10.244.0.0/16 fd00:10:244::/56",
                "10.96.0.0/16 fd00:10:96::/112",
                "172.30.0.3 fd00:172:30::3",
                "172.30.0.1 fd00:172:30::1",
                "172.30.0.239-172.30.0.254 fd00:172:30::1:0:0-fd00:172:30::1:0:f",
            ),
        ] {
            let state = State {
                ip_family,
                ..crate::plan::tests::usual()
            };
            let nets = |list: Vec<IpNet>| text(list.iter().map(IpNet::to_string).collect());
            let ips = |list: Vec<IpAddr>| text(list.iter().map(IpAddr::to_string).collect());
            assert_eq!(nets(pod_cidrs(&state)), pods);
            assert_eq!(nets(service_cidrs(&state)), services);
            assert_eq!(ips(node_ips(&state, 2)), node);
            assert_eq!(ips(machine_ips(&state)), machine);
            assert_eq!(text(super::pools(&state)), pools);
        }
    }
}

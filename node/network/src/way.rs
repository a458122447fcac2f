//! By which way packets get to another node's pods: as they are, over a link
//! that both nodes share, or in a tunnel. Pure.

use std::{net::IpAddr, str::FromStr};

/// When packets between nodes' pods go in VXLAN: Calico's `vxlanMode`, in its
/// words and with its meaning. Nodes may differ, but those that send in VXLAN
/// reach only those that may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VxlanMode {
    /// To nodes behind a router; flannel has that as `DirectRouting`.
    #[default]
    CrossSubnet,
    Always,
    /// Then a router in between has to know the pods' networks, and nodes behind
    /// one that does not are refused.
    Never,
}

impl FromStr for VxlanMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cross-subnet" => Ok(Self::CrossSubnet),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("cross-subnet, always or never".into()),
        }
    }
}

/// The kernel's route to another node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRoute {
    pub link: u32,
    /// Of a router on the way.
    pub gateway: Option<IpAddr>,
    /// Of the link.
    pub mtu: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    /// The longest packet in it.
    Vxlan {
        mtu: u32,
    },
}

/// What VXLAN puts before a packet: an Ethernet header, its own (RFC 7348, 5),
/// UDP's and IP's.
pub fn overhead(node: IpAddr) -> u32 {
    const ETHERNET: u32 = 14;
    const VXLAN: u32 = 8;
    const UDP: u32 = 8;
    let ip = if node.is_ipv4() { 20 } else { 40 };
    ETHERNET + VXLAN + UDP + ip
}

/// To pods whose node has the address `node`. `same_family` says that theirs are
/// of its family: only then is it a gateway to them.
pub fn decide(mode: VxlanMode, node: IpAddr, route: &NodeRoute, same_family: bool) -> Way {
    let direct = match mode {
        VxlanMode::Never => true,
        VxlanMode::Always => false,
        VxlanMode::CrossSubnet => same_family && route.gateway.is_none(),
    };
    if direct {
        return Way::Direct;
    }
    Way::Vxlan {
        mtu: route.mtu.saturating_sub(overhead(node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VxlanMode::{Always, CrossSubnet, Never};

    #[test]
    fn a_router_in_between_asks_for_the_tunnel() {
        let (v4, v6): (IpAddr, IpAddr) =
            ("172.30.0.3".parse().unwrap(), "fd00::3".parse().unwrap());
        let on_link = NodeRoute {
            link: 2,
            gateway: None,
            mtu: 1500,
        };
        let routed = NodeRoute {
            gateway: Some("172.30.0.1".parse().unwrap()),
            ..on_link
        };
        let jumbo = NodeRoute {
            mtu: 9000,
            ..routed
        };
        let vxlan = |mtu| Way::Vxlan { mtu };
        let table = [
            (CrossSubnet, v4, on_link, true, Way::Direct),
            (CrossSubnet, v4, routed, true, vxlan(1450)),
            (CrossSubnet, v4, jumbo, true, vxlan(8950)),
            (CrossSubnet, v6, on_link, true, Way::Direct),
            (CrossSubnet, v6, routed, true, vxlan(1430)),
            // IPv6 pods of nodes that have IPv4 alone.
            (CrossSubnet, v4, on_link, false, vxlan(1450)),
            (Always, v4, on_link, true, vxlan(1450)),
            (Always, v6, routed, true, vxlan(1430)),
            (Never, v4, on_link, true, Way::Direct),
            (Never, v4, routed, true, Way::Direct),
        ];
        for (mode, node, route, same_family, way) in table {
            let decided = decide(mode, node, &route, same_family);
            assert_eq!(decided, way, "{mode:?} {node} {route:?} {same_family}");
        }
    }

    #[test]
    fn modes_by_name() {
        let names = ["cross-subnet", "always", "never"];
        assert_eq!(
            names.map(str::parse),
            [CrossSubnet, Always, Never].map(Result::Ok)
        );
        for other in ["auto", "CrossSubnet", ""] {
            assert!(other.parse::<VxlanMode>().is_err(), "{other}");
        }
    }
}

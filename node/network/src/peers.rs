//! Which routes the other nodes ask for. Pure: [`crate::overlay`] looks and acts.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{
    Peer,
    tunnel::{self, Mac, Vxlan},
    way::{self, NodeRoute, Way},
};

/// The kernel's main table.
pub const MAIN: u8 = 254;

/// The table that this node's pods, and nobody else of it, are routed by first:
/// the nodes that are in the tunnel. Answers of pods to a node so go the way that
/// the question came: the network between the nodes need not know pods' addresses,
/// and the reverse path filter finds that way. The node's own packets to another
/// node, those of the tunnel among them, have nothing to do with it. 86 as
/// elsewhere.
pub const PODS: u8 = 86;

/// A route's table and destination.
pub type Key = (u8, IpNet);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Via the peer's address, over a link.
    Direct(IpAddr),
    Tunnel(Encap),
}

/// What a route in the tunnel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encap {
    /// [`tunnel::gateway`].
    pub gateway: IpAddr,
    pub vni: u32,
    /// Of the outer packet: this node, by which the other knows it, and the other.
    pub from: IpAddr,
    pub to: IpAddr,
}

/// What is to be in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub routes: BTreeMap<Key, Hop>,
    /// On the tunnel's device.
    pub neighbours: BTreeMap<IpAddr, Mac>,
    /// Of the tunnel's device; `None` where nobody needs it.
    pub mtu: Option<u32>,
    /// Pods whose node the kernel knows no way to now: what there is for them stays.
    pub lost: Vec<(IpNet, IpAddr)>,
}

impl Peer {
    /// Of its node, the first of which is its identity.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.node_ips
    }
}

/// `own` are this node's addresses; `route_to` is asked for the others'.
pub fn plan(
    peers: &[Peer],
    own: &[IpAddr],
    vxlan: &Vxlan,
    route_to: impl Fn(IpAddr) -> Option<NodeRoute>,
) -> Plan {
    let mut plan = Plan::default();
    let is_own = |peer: &&Peer| peer.addresses().iter().any(|node| own.contains(node));
    for peer in peers.iter().filter(|peer| !is_own(peer)) {
        for cidr in &peer.pod_cidrs {
            plan.pods(peer, cidr.trunc(), own, vxlan, &route_to);
        }
        if peer.pod_cidrs.is_empty() {
            continue;
        }
        for node in peer.addresses() {
            plan.node(peer, *node, own, vxlan, &route_to);
        }
    }
    plan
}

/// Where a node's packets to another begin: its address of that family.
fn from(own: &[IpAddr], to: IpAddr) -> Option<IpAddr> {
    own.iter()
        .copied()
        .find(|own| own.is_ipv4() == to.is_ipv4())
}

impl Plan {
    fn pods(
        &mut self,
        peer: &Peer,
        cidr: IpNet,
        own: &[IpAddr],
        vxlan: &Vxlan,
        route_to: &impl Fn(IpAddr) -> Option<NodeRoute>,
    ) {
        let v4 = cidr.addr().is_ipv4();
        let addresses = peer.addresses();
        let usable = || addresses.iter().filter(|node| from(own, **node).is_some());
        let same = usable().find(|node| node.is_ipv4() == v4);
        let Some(node) = same.or_else(|| usable().next()).copied() else {
            return;
        };
        let Some(route) = route_to(node) else {
            self.lost.push((cidr, node));
            return;
        };
        match way::decide(vxlan.mode, node, &route, same.is_some()) {
            Way::Direct if same.is_some() => {
                self.routes.insert((MAIN, cidr), Hop::Direct(node));
            }
            // A node of one family has no way to pods of the other without the tunnel.
            Way::Direct => {}
            Way::Vxlan { mtu } => self.tunnel((MAIN, cidr), peer, node, own, vxlan.vni, mtu),
        }
    }

    /// The node itself, for pods of this one.
    fn node(
        &mut self,
        peer: &Peer,
        node: IpAddr,
        own: &[IpAddr],
        vxlan: &Vxlan,
        route_to: &impl Fn(IpAddr) -> Option<NodeRoute>,
    ) {
        if from(own, node).is_none() {
            return;
        }
        let Some(route) = route_to(node) else {
            self.lost.push((node.into(), node));
            return;
        };
        if let Way::Vxlan { mtu } = way::decide(vxlan.mode, node, &route, true) {
            self.tunnel((PODS, node.into()), peer, node, own, vxlan.vni, mtu);
        }
    }

    fn tunnel(&mut self, key: Key, peer: &Peer, to: IpAddr, own: &[IpAddr], vni: u32, mtu: u32) {
        let identity = peer.addresses().first().copied();
        let (Some(from), Some(identity)) = (from(own, to), identity) else {
            return;
        };
        let gateway = tunnel::gateway(identity, key.1.addr().is_ipv4());
        let encap = Encap {
            gateway,
            vni,
            from,
            to,
        };
        self.routes.insert(key, Hop::Tunnel(encap));
        self.neighbours.insert(gateway, tunnel::mac(identity));
        // One device, so the shortest of them.
        self.mtu = Some(self.mtu.map_or(mtu, |other| other.min(mtu)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::way::VxlanMode;

    fn peer(name: &str, cidrs: &[&str], ip: &str) -> Peer {
        Peer {
            name: name.into(),
            pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            node_ips: ip.split(' ').map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    /// 172.30.0.0/24 and fd00::/64 are on a link, 10.0.0.0/8 is behind a router, and
    /// nothing else is known.
    fn route_to(node: IpAddr) -> Option<NodeRoute> {
        let within = |network: &str| network.parse::<IpNet>().unwrap().contains(&node);
        let route = |gateway: Option<&str>| NodeRoute {
            link: 2,
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            mtu: 1500,
        };
        if within("172.30.0.0/24") || within("fd00::/64") {
            return Some(route(None));
        }
        within("10.0.0.0/8").then(|| route(Some("172.30.0.1")))
    }

    fn text(plan: &Plan) -> Vec<String> {
        let routes = plan.routes.iter().map(|((table, to), hop)| match hop {
            Hop::Direct(via) => format!("{table} {to} {via}"),
            Hop::Tunnel(encap) => format!("{table} {to} {} > {}", encap.from, encap.to),
        });
        routes.collect()
    }

    const OWN: &str = "172.30.0.11";

    fn planned(peers: &[Peer], own: &[&str], mode: VxlanMode) -> Plan {
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        let vxlan = Vxlan {
            mode,
            ..Vxlan::default()
        };
        plan(peers, &own, &vxlan, route_to)
    }

    #[test]
    fn every_peer_has_its_way_and_the_node_itself_none() {
        let peers = [
            peer("self", &["10.244.0.0/24"], OWN),
            peer("near", &["10.244.1.7/24"], "172.30.0.12"),
            peer("no-cidr-yet", &[], "10.1.0.3"),
            peer("far", &["10.244.3.0/24"], "10.1.0.2"),
            peer("nowhere", &["10.244.4.0/24"], "192.0.2.1"),
            peer("other-family", &["10.244.5.0/24"], "fd00::5"),
        ];
        let plan = planned(&peers, &[OWN], VxlanMode::CrossSubnet);
        assert_eq!(
            text(&plan),
            [
                "86 10.1.0.2/32 172.30.0.11 > 10.1.0.2",
                "254 10.244.1.0/24 172.30.0.12",
                "254 10.244.3.0/24 172.30.0.11 > 10.1.0.2",
            ]
        );
        assert_eq!(plan.mtu, Some(1450));
        let far: IpAddr = "10.1.0.2".parse().unwrap();
        assert_eq!(plan.neighbours, [(far, tunnel::mac(far))].into());
        // Nobody misses a node of a family that this one has not.
        let lost: Vec<String> = plan.lost.iter().map(|(to, _)| to.to_string()).collect();
        assert_eq!(lost, ["10.244.4.0/24", "192.0.2.1/32"]);

        let always = planned(&peers, &[OWN], VxlanMode::Always);
        assert_eq!(
            text(&always),
            [
                "86 10.1.0.2/32 172.30.0.11 > 10.1.0.2",
                "86 172.30.0.12/32 172.30.0.11 > 172.30.0.12",
                "254 10.244.1.0/24 172.30.0.11 > 172.30.0.12",
                "254 10.244.3.0/24 172.30.0.11 > 10.1.0.2",
            ]
        );
        let never = planned(&peers, &[OWN], VxlanMode::Never);
        assert_eq!(
            text(&never),
            [
                "254 10.244.1.0/24 172.30.0.12",
                "254 10.244.3.0/24 10.1.0.2",
            ]
        );
        assert_eq!((never.mtu, never.neighbours.len()), (None, 0));
    }

    #[test]
    fn each_family_has_the_way_to_the_address_of_its_own() {
        let peers = [
            peer(
                "self",
                &["10.244.0.0/24", "fd01::/64"],
                "172.30.0.11 fd00::11",
            ),
            peer(
                "near",
                &["10.244.1.0/24", "fd01:0:0:1::/64"],
                "172.30.0.12 fd00::12",
            ),
            // Behind a router by IPv4 alone.
            peer(
                "far",
                &["fd01:0:0:2::/64", "10.244.2.0/24"],
                "fd00::13 10.1.0.2",
            ),
        ];
        let plan = planned(&peers, &[OWN, "fd00::11"], VxlanMode::CrossSubnet);
        assert_eq!(
            text(&plan),
            [
                "86 10.1.0.2/32 172.30.0.11 > 10.1.0.2",
                "254 10.244.1.0/24 172.30.0.12",
                "254 10.244.2.0/24 172.30.0.11 > 10.1.0.2",
                "254 fd01:0:0:1::/64 fd00::12",
                "254 fd01:0:0:2::/64 fd00::13",
            ]
        );
    }

    #[test]
    fn pods_of_a_family_that_nodes_have_not_are_in_the_tunnel() {
        let peers = [peer("b", &["10.244.1.0/24", "fd01::/64"], "172.30.0.12")];
        let plan_of = |mode| text(&planned(&peers, &[OWN, "fd00::11"], mode));
        assert_eq!(
            plan_of(VxlanMode::CrossSubnet),
            [
                "254 10.244.1.0/24 172.30.0.12",
                "254 fd01::/64 172.30.0.11 > 172.30.0.12",
            ]
        );
        assert_eq!(plan_of(VxlanMode::Never), ["254 10.244.1.0/24 172.30.0.12"]);
        let six = [peer("six", &["10.244.3.0/24", "fd01::/64"], "fd00::3")];
        let plan = planned(&six, &["fd00::11"], VxlanMode::Always);
        assert_eq!(
            text(&plan),
            [
                "86 fd00::3/128 fd00::11 > fd00::3",
                "254 10.244.3.0/24 fd00::11 > fd00::3",
                "254 fd01::/64 fd00::11 > fd00::3",
            ]
        );
        assert_eq!(plan.mtu, Some(1430));
        // One next hop for both families.
        assert_eq!(plan.neighbours.len(), 1);
    }
}

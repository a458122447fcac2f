//! The node's own links: which addresses it has, and by which links it reaches
//! and is reached.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use rtnetlink::RouteMessageBuilder;
use vetch_ebpf_common::Mac;
use vetch_network::TUNNEL_LINK;

use crate::netlink::Netlink;

/// A link as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// `None` where frames have no Ethernet header: the programs read one.
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub is_loopback: bool,
    /// Of the kernel's making, and no driver's.
    pub is_virtual: bool,
    /// The number of the program at its driver.
    pub xdp: Option<u32>,
}

/// What of the node's network decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub links: BTreeMap<u32, Link>,
    /// Addresses and the links that have them.
    pub addresses: BTreeSet<(IpAddr, u32)>,
    /// Links that default routes of either family lead through.
    pub default_routes: BTreeSet<u32>,
    /// Other nodes' pods, and the links that our routes to them lead through.
    pub peer_routes: BTreeMap<IpNet, u32>,
}

/// What follows for the programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeLinks {
    /// The node's own addresses, without those that only it can use.
    pub addresses: BTreeSet<IpAddr>,
    pub uplinks: BTreeMap<u32, Uplink>,
    /// The device of the tunnel to other nodes, if there is one.
    pub tunnel: Option<(u32, Uplink)>,
    /// [`Seen::peer_routes`].
    pub peer_routes: BTreeMap<IpNet, u32>,
    /// Names that were asked for and are no such link.
    pub not_found: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    pub name: String,
    pub mac: Mac,
    pub mtu: u32,
    pub is_virtual: bool,
    pub xdp: Option<u32>,
    /// Its own, of those that others can use.
    pub addresses: BTreeSet<IpAddr>,
}

/// The uplinks are those in `named`; if that is empty, the links with the
/// node's own addresses and those that default routes lead through.
pub fn decide(
    seen: &Seen,
    node_ips: &[IpAddr],
    named: &[String],
    is_pods: impl Fn(u32) -> bool,
) -> NodeLinks {
    let uplink = |index: u32| {
        let link = seen.links.get(&index)?;
        let mac = link.mac.filter(|_| !link.is_loopback && !is_pods(index))?;
        let own = seen.addresses.iter();
        let own = own.filter(|(ip, owner)| *owner == index && is_reachable(*ip));
        let uplink = Uplink {
            name: link.name.clone(),
            mac,
            mtu: link.mtu,
            is_virtual: link.is_virtual,
            xdp: link.xdp,
            addresses: own.map(|(ip, _)| *ip).collect(),
        };
        Some((index, uplink))
    };
    let uplinks: BTreeMap<u32, Uplink> = if named.is_empty() {
        let owners = seen.addresses.iter();
        owners
            .filter(|(ip, _)| node_ips.contains(ip))
            .map(|(_, index)| *index)
            .chain(seen.default_routes.iter().copied())
            .filter_map(uplink)
            .collect()
    } else {
        let links = seen.links.iter();
        links
            .filter(|(_, link)| named.contains(&link.name))
            .filter_map(|(index, _)| uplink(*index))
            .collect()
    };
    let mut tunnels = seen.links.iter();
    let tunnel = tunnels
        .find(|(_, link)| link.name == TUNNEL_LINK)
        .and_then(|(index, _)| uplink(*index));
    let is_found = |name: &&String| uplinks.values().any(|uplink| uplink.name == **name);
    let addresses = seen.addresses.iter();
    NodeLinks {
        addresses: addresses
            .filter(|(ip, index)| is_reachable(*ip) && !is_pods(*index))
            .map(|(ip, _)| *ip)
            .collect(),
        not_found: named
            .iter()
            .filter(|name| !is_found(name))
            .cloned()
            .collect(),
        uplinks,
        tunnel,
        peer_routes: seen.peer_routes.clone(),
    }
}

/// Not loopback, which the programs know themselves, and not link-local, which
/// says nothing without the link.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    }
}

pub fn look(netlink: &mut Netlink) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    for message in netlink.dump(&links)? {
        if let RouteNetlinkMessage::NewLink(message) = message {
            seen.links.insert(message.header.index, link(&message));
        }
    }
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in netlink.dump(&addresses)? {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(ip) = address(&message)
        {
            seen.addresses.insert((ip, message.header.index));
        }
    }
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for mut request in [v4, v6] {
        // Of every table: which is asked is the business of rules.
        request.header = RouteHeader {
            address_family: request.header.address_family,
            ..RouteHeader::default()
        };
        request.attributes.clear();
        for message in netlink.dump(&RouteNetlinkMessage::GetRoute(request))? {
            if let RouteNetlinkMessage::NewRoute(message) = message {
                seen.default_routes.extend(default_route(&message));
                seen.peer_routes.extend(peer_route(&message));
            }
        }
    }
    Ok(seen)
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        is_loopback: message.header.flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac)
                if message.header.link_layer_type == LinkLayerType::Ether =>
            {
                link.mac = mac.as_slice().try_into().ok();
            }
            LinkAttribute::LinkInfo(info) => {
                link.is_virtual = info.iter().any(|one| matches!(one, LinkInfo::Kind(_)));
            }
            LinkAttribute::Xdp(attributes) => link.xdp = xdp(attributes),
            _ => {}
        }
    }
    link
}

/// Where there is one in the driver and one in the stack, ours is neither.
fn xdp(attributes: &[LinkXdp]) -> Option<u32> {
    attributes.iter().find_map(|one| match one {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<IpAddr> {
    let own = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    };
    let any = |attribute: &AddressAttribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    };
    // On a point-to-point link the other is the peer's.
    let attributes = &message.attributes;
    attributes
        .iter()
        .find_map(own)
        .or_else(|| attributes.iter().find_map(any))
}

/// A route of ours in the main table that leads through another node.
fn peer_route(message: &RouteMessage) -> Option<(IpNet, u32)> {
    let header = &message.header;
    if header.protocol != vetch_network::ROUTE_PROTOCOL
        || header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let (mut to, mut link, mut has_gateway) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = Some(IpAddr::V6(*ip)),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => has_gateway = true,
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    // Without a gateway it is a pod's of this node.
    let to = IpNet::new(
        to.filter(|_| has_gateway)?,
        header.destination_prefix_length,
    );
    Some((to.ok()?, link?))
}

/// The links of a default route; none of any other.
fn default_route(message: &RouteMessage) -> Vec<u32> {
    let header = &message.header;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || !matches!(
            header.address_family,
            AddressFamily::Inet | AddressFamily::Inet6
        )
    {
        return Vec::new();
    }
    let mut links = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => links.push(*index),
            RouteAttribute::MultiPath(hops) => {
                links.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteProtocol;

    use super::*;

    fn seen() -> Seen {
        let link = |name: &str, mac: Option<u8>, is_loopback| Link {
            name: name.into(),
            mac: mac.map(|last| [2, 0, 0, 0, 0, last]),
            mtu: 1500,
            is_loopback,
            ..Link::default()
        };
        let address = |ip: &str, index| (ip.parse().unwrap(), index);
        Seen {
            links: BTreeMap::from([
                (1, link("lo", Some(0), true)),
                (2, link("eth0", Some(2), false)),
                (3, link("eth1", Some(3), false)),
                (4, link("wg0", None, false)),
                (9, link("vt0", Some(9), false)),
            ]),
            addresses: BTreeSet::from([
                address("127.0.0.1", 1),
                address("::1", 1),
                address("192.0.2.99", 1),
                address("172.30.0.11", 2),
                address("fe80::2", 2),
                address("fd00::11", 2),
                address("198.51.100.7", 3),
                address("10.9.0.1", 4),
                address("203.0.113.1", 9),
            ]),
            default_routes: BTreeSet::from([3, 4, 9]),
            peer_routes: BTreeMap::new(),
        }
    }

    #[test]
    fn the_tunnel_is_no_uplink() {
        let mut seen = seen();
        assert_eq!(decide(&seen, &[], &[], |_| false).tunnel, None);
        let device = Link {
            name: TUNNEL_LINK.into(),
            mac: Some([10; 6]),
            mtu: 1450,
            is_virtual: true,
            ..Link::default()
        };
        seen.links.insert(12, device);
        let far = ("10.244.2.0/24".parse().unwrap(), 12);
        seen.peer_routes.extend([far]);
        for named in [vec![], vec!["eth0".to_owned()]] {
            let links = decide(&seen, &["172.30.0.11".parse().unwrap()], &named, |_| false);
            let (index, tunnel) = links.tunnel.as_ref().unwrap();
            assert_eq!((*index, tunnel.mtu), (12, 1450));
            assert!(!names(&links).contains(&TUNNEL_LINK), "{named:?}");
            assert_eq!(links.peer_routes, BTreeMap::from([far]));
        }
    }

    #[test]
    fn routes_through_other_nodes_are_known_by_their_mark() {
        let route = |protocol, table, gateway: bool| {
            let to: Ipv4Addr = "10.244.2.0".parse().unwrap();
            let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, 24)
                .output_interface(12)
                .protocol(protocol)
                .table_id(table)
                .build();
            let via = RouteAddress::Inet("172.30.0.12".parse().unwrap());
            let via = gateway.then_some(RouteAttribute::Gateway(via));
            message.attributes.extend(via);
            peer_route(&message)
        };
        let ours = vetch_network::ROUTE_PROTOCOL;
        let main = u32::from(RouteHeader::RT_TABLE_MAIN);
        let far = ("10.244.2.0/24".parse().unwrap(), 12);
        assert_eq!(route(ours, main, true), Some(far));
        // A pod's of this node, the table for pods, another's.
        assert_eq!(route(ours, main, false), None);
        assert_eq!(route(ours, 86, true), None);
        assert_eq!(route(RouteProtocol::Static, main, true), None);
    }

    fn names(links: &NodeLinks) -> Vec<&str> {
        links
            .uplinks
            .values()
            .map(|uplink| uplink.name.as_str())
            .collect()
    }

    /// What it is, the node's addresses, the names asked for; uplinks, names not found.
    type Case = (
        &'static str,
        Vec<IpAddr>,
        Vec<String>,
        &'static [&'static str],
        &'static [&'static str],
    );

    #[test]
    fn uplinks_own_the_nodes_address_or_a_default_route() {
        let ip = |text: &str| vec![text.parse().unwrap()];
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let table: [Case; 6] = [
            (
                "both",
                ip("172.30.0.11"),
                named(&[]),
                &["eth0", "eth1"],
                &[],
            ),
            (
                "the other family",
                ip("fd00::11"),
                named(&[]),
                &["eth0", "eth1"],
                &[],
            ),
            (
                "address on lo",
                ip("192.0.2.99"),
                named(&[]),
                &["eth1"],
                &[],
            ),
            (
                "nobody's address",
                ip("192.0.2.98"),
                named(&[]),
                &["eth1"],
                &[],
            ),
            ("named", ip("172.30.0.11"), named(&["eth1"]), &["eth1"], &[]),
            (
                "no Ethernet, a pod's, not there",
                ip("172.30.0.11"),
                named(&["eth0", "wg0", "vt0", "eth7"]),
                &["eth0"],
                &["wg0", "vt0", "eth7"],
            ),
        ];
        for (what, node_ips, named, uplinks, not_found) in table {
            let links = decide(&seen(), &node_ips, &named, |index| index == 9);
            assert_eq!(names(&links), uplinks, "{what}");
            assert_eq!(links.not_found, not_found, "{what}");
        }
        let links = decide(&seen(), &[], &[], |_| false);
        assert_eq!(links.uplinks[&3].mac, [2, 0, 0, 0, 0, 3]);
    }

    #[test]
    fn addresses_are_those_that_others_can_use() {
        let links = decide(&seen(), &[], &[], |index| index == 9);
        let addresses: Vec<String> = links.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            addresses,
            [
                "10.9.0.1",
                "172.30.0.11",
                "192.0.2.99",
                "198.51.100.7",
                "fd00::11"
            ]
        );
    }

    #[test]
    fn an_uplink_has_its_own_addresses() {
        let links = decide(&seen(), &["172.30.0.11".parse().unwrap()], &[], |index| {
            index == 9
        });
        let of = |index| {
            let addresses = links.uplinks[&index].addresses.iter();
            addresses.map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(2), ["172.30.0.11", "fd00::11"]);
        assert_eq!(of(3), ["198.51.100.7"]);
    }

    #[test]
    fn an_empty_node_has_nothing() {
        let links = decide(&Seen::default(), &[], &["eth0".into()], |_| false);
        assert_eq!(links.uplinks.len() + links.addresses.len(), 0);
        assert_eq!(links.not_found, ["eth0"]);
    }
}

//! Routes through peers, as the kernel has them: over a link via the peer's
//! address, or in the tunnel, where the route itself says to whom (lightweight
//! tunnel encapsulation, `ip route … encap ip`).

use std::{collections::BTreeMap, net::IpAddr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteIp6Tunnel, RouteIp6TunnelFlags,
        RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap, RouteMessage, RouteScope, RouteType,
        RouteVia,
    },
};
use rtnetlink::RouteMessageBuilder;

use crate::{
    link::{LinkError, failed, is_errno},
    netns::Netlink,
    peers::{Encap, Hop, Key, MAIN},
    route::{PROTOCOL, is_ours},
    way::NodeRoute,
};

/// One of ours in the kernel.
#[derive(Clone, Debug)]
pub struct PeerRoute {
    pub key: Key,
    pub hop: Hop,
    pub link: Option<u32>,
    message: RouteMessage,
}

/// The link that a packet to `node` would leave by, and the router it would go to;
/// without the length of packets, which the link has.
pub async fn to_node(netlink: &Netlink, node: IpAddr) -> Result<NodeRoute, LinkError> {
    let step = format!("find a route to {node}");
    let length = if node.is_ipv4() { 32 } else { 128 };
    let mut question = RouteMessage::default();
    question.header.address_family = family(node);
    question.header.destination_prefix_length = length;
    question.attributes = vec![RouteAttribute::Destination(node.into())];
    let mut answer = netlink.route().get(question).execute();
    let answer = answer.try_next().await.map_err(failed(step.clone()))?;
    let route = answer.as_ref().and_then(node_route);
    // A local address, or one that is refused or dropped.
    route.ok_or_else(|| failed(step)(rtnetlink::Error::RequestFailed))
}

fn node_route(message: &RouteMessage) -> Option<NodeRoute> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let (gateway, link) = next_hop(message);
    Some(NodeRoute {
        link: link?,
        gateway,
        mtu: 0,
    })
}

fn next_hop(message: &RouteMessage) -> (Option<IpAddr>, Option<u32>) {
    let (mut gateway, mut link) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => gateway = Some(IpAddr::V4(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => gateway = Some(IpAddr::V6(*ip)),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    (gateway, link)
}

/// All of ours that lead to peers, of every table.
pub async fn list(netlink: &Netlink) -> Result<BTreeMap<Key, PeerRoute>, LinkError> {
    let mut all = BTreeMap::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let _dump = netlink.dump().await;
        let mut question = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        question.header.address_family = family;
        let mut routes = netlink.route().get(question).execute();
        while let Some(message) = routes.try_next().await.map_err(failed("list routes"))? {
            if message.header.address_family == family
                && let Some(route) = parse(message)
            {
                all.insert(route.key, route);
            }
        }
    }
    Ok(all)
}

/// `None` for others' routes, and for those of this node's pods, which have no
/// gateway.
pub fn parse(message: RouteMessage) -> Option<PeerRoute> {
    if !is_ours(&message) {
        return None;
    }
    let length = message.header.destination_prefix_length;
    let mut to = None;
    let mut encap = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => to = Some(IpAddr::V6(*ip)),
            RouteAttribute::Encap(parts) => encap = said(parts),
            _ => {}
        }
    }
    let (gateway, link) = next_hop(&message);
    let gateway = gateway?;
    let hop = match encap {
        (Some(vni), Some(from), Some(to)) => Hop::Tunnel(Encap {
            gateway,
            vni,
            from,
            to,
        }),
        _ => Hop::Direct(gateway),
    };
    Some(PeerRoute {
        key: (message.header.table, IpNet::new(to?, length).ok()?),
        hop,
        link,
        message,
    })
}

fn said(parts: &[RouteLwTunnelEncap]) -> (Option<u32>, Option<IpAddr>, Option<IpAddr>) {
    use RouteLwTunnelEncap::{Ip, Ip6};
    let (mut vni, mut from, mut to) = (None, None, None);
    for part in parts {
        match part {
            Ip(RouteIpTunnel::Id(id)) | Ip6(RouteIp6Tunnel::Id(id)) => vni = (*id).try_into().ok(),
            Ip(RouteIpTunnel::Source(ip)) => from = Some(IpAddr::V4(*ip)),
            Ip(RouteIpTunnel::Destination(ip)) => to = Some(IpAddr::V4(*ip)),
            Ip6(RouteIp6Tunnel::Source(ip)) => from = Some(IpAddr::V6(*ip)),
            Ip6(RouteIp6Tunnel::Destination(ip)) => to = Some(IpAddr::V6(*ip)),
            _ => {}
        }
    }
    (vni, from, to)
}

/// The node talks from `source` to who is there. At one instant in the place of what
/// there was.
pub async fn put(
    netlink: &Netlink,
    key: Key,
    hop: &Hop,
    device: Option<u32>,
    source: Option<IpAddr>,
) -> Result<(), LinkError> {
    let (_, to) = key;
    let step = match hop {
        Hop::Direct(via) => format!("route {to} via {via}"),
        Hop::Tunnel(encap) => format!("route {to} in VXLAN to {}", encap.to),
    };
    let request = netlink.route().add(message(key, hop, device, source));
    request.replace().execute().await.map_err(failed(step))
}

pub async fn delete(netlink: &Netlink, route: &PeerRoute) -> Result<(), LinkError> {
    let mut message = route.message.clone();
    message.attributes.retain(|attribute| {
        use RouteAttribute::{Destination, Gateway, Oif, Priority, Table, Via};
        matches!(
            attribute,
            Destination(_) | Gateway(_) | Via(_) | Oif(_) | Priority(_) | Table(_)
        )
    });
    match netlink.route().del(message).execute().await {
        Err(error) if is_errno(&error, nix::Error::ESRCH as i32) => Ok(()),
        removed => removed.map_err(failed(format!("remove the route to {}", route.key.1))),
    }
}

pub fn message(
    (table, to): Key,
    hop: &Hop,
    device: Option<u32>,
    source: Option<IpAddr>,
) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(to.addr()),
        destination_prefix_length: to.prefix_len(),
        table,
        protocol: PROTOCOL,
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(to.network().into()));
    match hop {
        Hop::Direct(via) => attributes.push(next(to, *via)),
        Hop::Tunnel(encap) => {
            attributes.push(next(to, encap.gateway));
            attributes.extend(device.map(RouteAttribute::Oif));
            attributes.extend(encapsulation(encap));
            message.header.flags = RouteFlags::Onlink;
        }
    }
    let is_known = |source: &IpAddr| table == MAIN && source.is_ipv4() == to.addr().is_ipv4();
    if let (Hop::Tunnel(_), Some(source)) = (hop, source.filter(is_known)) {
        message
            .attributes
            .push(RouteAttribute::PrefSource(source.into()));
    }
    message
}

fn next(to: IpNet, via: IpAddr) -> RouteAttribute {
    match via {
        IpAddr::V6(via) if to.addr().is_ipv4() => RouteAttribute::Via(RouteVia::Inet6(via)),
        via => RouteAttribute::Gateway(via.into()),
    }
}

fn encapsulation(encap: &Encap) -> [RouteAttribute; 2] {
    use RouteLwTunnelEncap::{Ip, Ip6};
    let id = u64::from(encap.vni);
    let (kind, parts) = match (encap.from, encap.to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => (
            RouteLwEnCapType::Ip6,
            vec![
                Ip6(RouteIp6Tunnel::Id(id)),
                Ip6(RouteIp6Tunnel::Source(from)),
                Ip6(RouteIp6Tunnel::Destination(to)),
                // IPv6's header has no checksum of its own (RFC 8200, 8.1).
                Ip6(RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum)),
            ],
        ),
        (from, to) => {
            let v4 = |ip| match ip {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(_) => std::net::Ipv4Addr::UNSPECIFIED,
            };
            (
                RouteLwEnCapType::Ip,
                vec![
                    Ip(RouteIpTunnel::Id(id)),
                    Ip(RouteIpTunnel::Source(v4(from))),
                    Ip(RouteIpTunnel::Destination(v4(to))),
                ],
            )
        }
    };
    [
        RouteAttribute::EncapType(kind),
        RouteAttribute::Encap(parts),
    ]
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let tunnel = |gateway: &str, from: &str, to: &str| {
            Hop::Tunnel(Encap {
                gateway: ip(gateway),
                vni: 86,
                from: ip(from),
                to: ip(to),
            })
        };
        let v4 = ("172.30.0.2", "10.1.0.2");
        let table: [(Key, Hop); 6] = [
            (
                (MAIN, "10.244.1.0/24".parse().unwrap()),
                Hop::Direct(ip("172.30.0.3")),
            ),
            (
                (MAIN, "fd01::/64".parse().unwrap()),
                Hop::Direct(ip("fd00::3")),
            ),
            (
                (MAIN, "10.244.1.0/24".parse().unwrap()),
                tunnel("10.1.0.2", v4.0, v4.1),
            ),
            (
                (86, "10.1.0.2/32".parse().unwrap()),
                tunnel("10.1.0.2", v4.0, v4.1),
            ),
            (
                (MAIN, "fd01::/64".parse().unwrap()),
                tunnel("fe80::1", v4.0, v4.1),
            ),
            (
                (MAIN, "10.244.1.0/24".parse().unwrap()),
                tunnel("fe80::1", "fd00::2", "fd02::2"),
            ),
        ];
        for (key, hop) in table {
            let written = message(key, &hop, Some(7), Some(ip("172.30.0.2")));
            let read = parse(written.clone()).unwrap();
            assert_eq!((read.key, read.hop), (key, hop), "{written:?}");
            let on_device = matches!(hop, Hop::Tunnel(_)).then_some(7);
            assert_eq!(read.link, on_device, "{written:?}");
            // A node's own address is the source of what it sends into the tunnel.
            let source = written
                .attributes
                .iter()
                .any(|one| matches!(one, RouteAttribute::PrefSource(_)));
            let expected = on_device.is_some() && key.0 == MAIN && key.1.addr().is_ipv4();
            assert_eq!(source, expected, "{written:?}");
        }
    }

    #[test]
    fn others_routes_and_pods_are_no_peers() {
        let key = (MAIN, "10.244.1.0/24".parse().unwrap());
        let mut others = message(key, &Hop::Direct(ip("172.30.0.3")), None, None);
        others.header.protocol = netlink_packet_route::route::RouteProtocol::Static;
        assert!(parse(others).is_none());
        let pod = crate::route::to_pod("10.244.0.2".parse().unwrap(), 7, None);
        assert!(parse(pod).is_none());
    }

    #[test]
    fn a_node_is_on_a_link_or_behind_a_router() {
        let answer = |gateway: Option<&str>| {
            let mut message = RouteMessage::default();
            message.header.kind = RouteType::Unicast;
            message.attributes.push(RouteAttribute::Oif(2));
            let gateway = gateway.map(|via| RouteAttribute::Gateway(ip(via).into()));
            message.attributes.extend(gateway);
            message
        };
        let on_link = node_route(&answer(None)).unwrap();
        assert_eq!((on_link.link, on_link.gateway), (2, None));
        let routed = node_route(&answer(Some("172.30.0.1"))).unwrap();
        assert_eq!(routed.gateway, Some(ip("172.30.0.1")));
        let mut local = answer(None);
        local.header.kind = RouteType::Local;
        assert_eq!(node_route(&local), None);
    }
}

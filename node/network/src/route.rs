//! Routes: to this node's pods, and through the peers to theirs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::{
    Peer,
    link::{LinkError, failed, is_errno, whole},
    netns::Netlink,
};

/// Marks our routes in the kernel's table, so that others' are never touched.
/// 86 has no name in rt_protos.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

/// The node's side: `address` is behind `index`, and the node talks to it from
/// `source`, or from an address of that link.
pub async fn add_pod(
    netlink: &Handle,
    index: u32,
    address: IpAddr,
    source: Option<IpAddr>,
) -> Result<(), LinkError> {
    let route = to_pod(address, index, source);
    replace(netlink, route, format!("route {address} to link {index}")).await
}

pub fn to_pod(address: IpAddr, index: u32, source: Option<IpAddr>) -> RouteMessage {
    let mut route = to(address, whole(address));
    route.header.protocol = PROTOCOL;
    on_link(&mut route, index);
    if let Some(source) = source {
        let source = RouteAttribute::PrefSource(source.into());
        route.attributes.push(source);
    }
    route
}

/// The pod's side: everything goes to the gateway, which is on this link.
pub async fn add_pod_default(
    netlink: &Handle,
    index: u32,
    gateway: IpAddr,
) -> Result<(), LinkError> {
    // A link-local IPv6 address is on its link anyway.
    if gateway.is_ipv4() {
        let mut on = to(gateway, whole(gateway));
        on_link(&mut on, index);
        replace(netlink, on, format!("route the gateway to link {index}")).await?;
    }
    let default = default_via(gateway, index);
    let step = format!("set the default route of link {index} via {gateway}");
    replace(netlink, default, step).await
}

fn default_via(gateway: IpAddr, index: u32) -> RouteMessage {
    let mut route = empty(gateway);
    route.attributes.extend([
        RouteAttribute::Gateway(gateway.into()),
        RouteAttribute::Oif(index),
    ]);
    route
}

/// Which link each of this node's pods is behind.
pub async fn pods(netlink: &Netlink) -> Result<BTreeMap<IpAddr, u32>, LinkError> {
    let own = list(netlink).await?.into_iter().filter(Route::is_pods);
    Ok(own
        .filter_map(|route| Some((route.destination.addr(), route.link?)))
        .collect())
}

/// The routes the peers ask for: an address range and the node that has it, at
/// its address of that family. Ranges of a family in which the node has none
/// are not reached.
pub fn wanted(peers: &[Peer], own: &[IpAddr]) -> BTreeMap<IpNet, IpAddr> {
    let others = peers
        .iter()
        .filter(|peer| !peer.node_ips.iter().any(|ip| own.contains(ip)));
    others
        .flat_map(|peer| peer.pod_cidrs.iter().map(move |cidr| (cidr, peer)))
        .filter_map(|(cidr, peer)| Some((cidr.trunc(), peer.node_ip(cidr.addr())?)))
        .collect()
}

/// Makes the peers' routes in the kernel those of `wanted`; new ones first, and
/// answers how many were new. A peer that cannot be routed to does not keep the
/// others from it: the first error is returned at the end.
pub async fn reconcile_peers(
    netlink: &Netlink,
    wanted: &BTreeMap<IpNet, IpAddr>,
) -> Result<usize, LinkError> {
    let present = list(netlink).await?;
    let mut new = 0;
    let mut result = Ok(());
    for (cidr, via) in wanted {
        let is_it = |route: &Route| route.destination == *cidr && route.gateway == Some(*via);
        if present.iter().any(is_it) {
            continue;
        }
        let step = format!("route {cidr} via {via}");
        let routed = replace(netlink, to_peer(*cidr, *via), step).await;
        new += usize::from(routed.is_ok());
        result = result.and(routed);
    }
    for route in present {
        let (Some(via), cidr) = (route.gateway, route.destination) else {
            continue;
        };
        if wanted.contains_key(&cidr) {
            continue;
        }
        match netlink.route().del(route.message).execute().await {
            Err(error) if is_errno(&error, nix::Error::ESRCH as i32) => {}
            removed => {
                let step = format!("remove the route to {cidr} via {via}");
                result = result.and(removed.map_err(failed(step)));
            }
        }
    }
    result.map(|()| new)
}

fn to_peer(cidr: IpNet, via: IpAddr) -> RouteMessage {
    let mut route = to(cidr.network(), cidr.prefix_len());
    route.header.protocol = PROTOCOL;
    route.attributes.push(RouteAttribute::Gateway(via.into()));
    route
}

/// One of our routes as the kernel has it.
#[derive(Clone, Debug)]
pub struct Route {
    pub destination: IpNet,
    /// Of a peer's; a pod is on the link itself.
    pub gateway: Option<IpAddr>,
    pub link: Option<u32>,
    pub source: Option<IpAddr>,
    message: RouteMessage,
}

impl Route {
    /// A peer's pods are behind a gateway.
    pub fn is_pods(&self) -> bool {
        self.gateway.is_none() && self.destination.prefix_len() == self.destination.max_prefix_len()
    }
}

/// Of both families.
pub async fn list(netlink: &Netlink) -> Result<Vec<Route>, LinkError> {
    let _dump = netlink.dump().await;
    let mut ours = Vec::new();
    for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
        let mut routes = netlink.route().get(empty(any)).execute();
        while let Some(message) = routes.try_next().await.map_err(failed("list routes"))? {
            if is_ours(&message) {
                ours.extend(parse(message));
            }
        }
    }
    Ok(ours)
}

pub fn is_ours(message: &RouteMessage) -> bool {
    message.header.protocol == PROTOCOL
}

pub fn parse(message: RouteMessage) -> Option<Route> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut destination, mut gateway, mut link, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let length = message.header.destination_prefix_length;
    Some(Route {
        destination: IpNet::new(destination?, length).ok()?,
        gateway,
        link,
        source,
        message,
    })
}

fn to(address: IpAddr, length: u8) -> RouteMessage {
    let mut route = empty(address);
    route.header.destination_prefix_length = length;
    let destination = RouteAttribute::Destination(address.into());
    route.attributes.push(destination);
    route
}

/// A unicast route of the main table, of the family of `address`.
fn empty(address: IpAddr) -> RouteMessage {
    match address {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

fn on_link(route: &mut RouteMessage, index: u32) {
    route.header.scope = RouteScope::Link;
    route.attributes.push(RouteAttribute::Oif(index));
}

async fn replace(netlink: &Handle, route: RouteMessage, step: String) -> Result<(), LinkError> {
    netlink
        .route()
        .add(route)
        .replace()
        .execute()
        .await
        .map_err(failed(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_become_routes_except_the_node_itself_and_families_it_has_no_address_of() {
        let peer = |name: &str, cidrs: &[&str], ips: &[&str]| Peer {
            name: name.into(),
            pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            node_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        let both = ["172.30.0.14", "fd00::14"];
        let peers = [
            peer("self", &["10.244.0.0/24"], &["172.30.0.11"]),
            peer("b", &["10.244.1.7/24", "fd00:1::/64"], &["172.30.0.12"]),
            peer("no-cidr-yet", &[], &["172.30.0.13"]),
            peer("dual", &["10.244.4.0/24", "fd00:4::/64"], &both),
            peer("six-first", &["fd00:5::/64"], &["fd00::15", "172.30.0.15"]),
            peer("six", &["10.244.3.0/24"], &["fd00::1"]),
        ];
        let routes = wanted(&peers, &["172.30.0.11".parse().unwrap()]);
        let routes: Vec<String> = routes
            .iter()
            .map(|(cidr, via)| format!("{cidr} {via}"))
            .collect();
        assert_eq!(
            routes,
            [
                "10.244.1.0/24 172.30.0.12",
                "10.244.4.0/24 172.30.0.14",
                "fd00:4::/64 fd00::14",
                "fd00:5::/64 fd00::15",
            ]
        );
    }

    #[test]
    fn a_route_reads_as_it_was_written() {
        for (pod, source, via, cidr) in [
            ("10.244.1.2", "172.30.0.11", "172.30.0.12", "10.244.2.0/24"),
            ("fd00:1::2", "fd00::11", "fd00::12", "fd00:2::/64"),
        ] {
            let (pod, source): (IpAddr, IpAddr) = (pod.parse().unwrap(), source.parse().unwrap());
            let own = parse(to_pod(pod, 7, Some(source))).unwrap();
            assert_eq!((own.destination.addr(), own.is_pods()), (pod, true));
            assert_eq!((own.link, own.source), (Some(7), Some(source)));
            let (via, cidr): (IpAddr, IpNet) = (via.parse().unwrap(), cidr.parse().unwrap());
            let peers = parse(to_peer(cidr, via)).unwrap();
            assert_eq!((peers.destination, peers.gateway), (cidr, Some(via)));
            assert!(is_ours(&peers.message) && !peers.is_pods());
        }
    }
}

//! Routes: to this node's pods, and through the peers to theirs.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::{
    Peer,
    link::{GATEWAY, LinkError, failed, is_errno},
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
    address: Ipv4Addr,
    source: Option<Ipv4Addr>,
) -> Result<(), LinkError> {
    let route = to_pod(address, index, source);
    replace(netlink, route, format!("route {address} to link {index}")).await
}

pub fn to_pod(address: Ipv4Addr, index: u32, source: Option<Ipv4Addr>) -> RouteMessage {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .protocol(PROTOCOL);
    if let Some(source) = source {
        route = route.pref_source(source);
    }
    route.build()
}

/// The pod's side: everything goes to the gateway, which is on this link.
pub async fn add_pod_default(netlink: &Handle, index: u32) -> Result<(), LinkError> {
    let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(GATEWAY, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .build();
    replace(
        netlink,
        gateway,
        format!("route the gateway to link {index}"),
    )
    .await?;
    let default = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(GATEWAY)
        .output_interface(index)
        .build();
    replace(
        netlink,
        default,
        format!("set the default route of link {index}"),
    )
    .await
}

/// Which link each of this node's pods is behind.
pub async fn pods(netlink: &Netlink) -> Result<BTreeMap<Ipv4Addr, u32>, LinkError> {
    // A peer's pods are behind a gateway.
    let own = list(netlink).await?.into_iter();
    let own = own.filter(|route| route.gateway.is_none());
    Ok(own
        .filter_map(|route| Some((route.destination.addr(), route.link?)))
        .collect())
}

/// The routes the peers ask for: an address range and the node that has it.
pub fn wanted(peers: &[Peer], node_ip: IpAddr) -> BTreeMap<Ipv4Net, Ipv4Addr> {
    peers
        .iter()
        .filter(|peer| peer.node_ip != node_ip)
        .flat_map(|peer| peer.pod_cidrs.iter().map(move |cidr| (cidr, peer.node_ip)))
        .filter_map(|(cidr, via)| match (cidr, via) {
            (IpNet::V4(cidr), IpAddr::V4(via)) => Some((cidr.trunc(), via)),
            _ => None,
        })
        .collect()
}

/// Makes the peers' routes in the kernel those of `wanted`; new ones first, and
/// answers how many were new. A peer that cannot be routed to does not keep the
/// others from it: the first error is returned at the end.
pub async fn reconcile_peers(
    netlink: &Netlink,
    wanted: &BTreeMap<Ipv4Net, Ipv4Addr>,
) -> Result<usize, LinkError> {
    let present = list(netlink).await?;
    let mut new = 0;
    let mut result = Ok(());
    for (cidr, via) in wanted {
        let is_it = |route: &Route| route.destination == *cidr && route.gateway == Some(*via);
        if present.iter().any(is_it) {
            continue;
        }
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(cidr.network(), cidr.prefix_len())
            .gateway(*via)
            .protocol(PROTOCOL)
            .build();
        let routed = replace(netlink, route, format!("route {cidr} via {via}")).await;
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

/// One of our routes as the kernel has it.
#[derive(Clone, Debug)]
pub struct Route {
    pub destination: Ipv4Net,
    /// Of a peer's; a pod is on the link itself.
    pub gateway: Option<Ipv4Addr>,
    pub link: Option<u32>,
    pub source: Option<Ipv4Addr>,
    message: RouteMessage,
}

pub async fn list(netlink: &Netlink) -> Result<Vec<Route>, LinkError> {
    let _dump = netlink.dump().await;
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = netlink.route().get(all).execute();
    let mut ours = Vec::new();
    while let Some(message) = routes.try_next().await.map_err(failed("list routes"))? {
        if is_ours(&message) {
            ours.extend(parse(message));
        }
    }
    Ok(ours)
}

pub fn is_ours(message: &RouteMessage) -> bool {
    message.header.protocol == PROTOCOL
}

pub fn parse(message: RouteMessage) -> Option<Route> {
    let (mut destination, mut gateway, mut link, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(*ip),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(*ip),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some(*ip),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let length = message.header.destination_prefix_length;
    Some(Route {
        destination: Ipv4Net::new(destination?, length).ok()?,
        gateway,
        link,
        source,
        message,
    })
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
    fn peers_become_routes_except_the_node_itself_and_other_families() {
        let peer = |name: &str, cidrs: &[&str], ip: &str| Peer {
            name: name.into(),
            pod_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            node_ip: ip.parse().unwrap(),
        };
        let peers = [
            peer("self", &["10.244.0.0/24"], "172.30.0.11"),
            peer("b", &["10.244.1.7/24", "fd00:1::/64"], "172.30.0.12"),
            peer("no-cidr-yet", &[], "172.30.0.13"),
            peer("six", &["10.244.3.0/24"], "fd00::1"),
        ];
        let routes = wanted(&peers, "172.30.0.11".parse().unwrap());
        let routes: Vec<String> = routes
            .iter()
            .map(|(cidr, via)| format!("{cidr} {via}"))
            .collect();
        assert_eq!(routes, ["10.244.1.0/24 172.30.0.12"]);
    }
}

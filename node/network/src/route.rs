//! Routes to this node's pods; those to the others' are [`crate::peer_route`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::{
    link::{LinkError, failed, whole},
    netns::Netlink,
};

/// Marks our routes in the kernel's table, so that others' are never touched.
/// 86 has no name in rt_protos.
pub const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

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

/// The links that default routes lead to.
pub async fn default_links(netlink: &Netlink) -> Result<BTreeSet<u32>, LinkError> {
    let _dump = netlink.dump().await;
    let mut links = BTreeSet::new();
    for any in [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()] {
        let mut routes = netlink.route().get(empty(any)).execute();
        while let Some(message) = routes.try_next().await.map_err(failed("list routes"))? {
            let header = &message.header;
            if header.destination_prefix_length == 0 && header.table == RouteHeader::RT_TABLE_MAIN {
                links.extend(message.attributes.iter().filter_map(|one| match one {
                    RouteAttribute::Oif(index) => Some(*index),
                    _ => None,
                }));
            }
        }
    }
    Ok(links)
}

/// One of our routes as the kernel has it.
#[derive(Clone, Debug)]
pub struct Route {
    pub destination: IpNet,
    /// Of a peer's; a pod is on the link itself.
    pub gateway: Option<IpAddr>,
    pub link: Option<u32>,
    pub source: Option<IpAddr>,
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
    fn a_route_reads_as_it_was_written() {
        for (pod, source) in [("10.244.1.2", "172.30.0.11"), ("fd00:1::2", "fd00::11")] {
            let (pod, source): (IpAddr, IpAddr) = (pod.parse().unwrap(), source.parse().unwrap());
            let message = to_pod(pod, 7, Some(source));
            assert!(is_ours(&message));
            let own = parse(message).unwrap();
            assert_eq!((own.destination.addr(), own.is_pods()), (pod, true));
            assert_eq!((own.link, own.source), (Some(7), Some(source)));
        }
    }
}

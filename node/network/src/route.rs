//! Routes to this node's pods; those to the others' are [`crate::peer_route`]'s.

use std::{collections::BTreeMap, net::Ipv4Addr};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::{
    link::{GATEWAY, LinkError, failed},
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

/// One of our routes as the kernel has it.
#[derive(Clone, Debug)]
pub struct Route {
    pub destination: Ipv4Net,
    /// Of a peer's; a pod is on the link itself.
    pub gateway: Option<Ipv4Addr>,
    pub link: Option<u32>,
    pub source: Option<Ipv4Addr>,
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

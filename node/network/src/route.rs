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
};

/// Marks our routes in the kernel's table, so that others' are never touched.
/// 86 has no name in rt_protos.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(86);

/// The node's side: `address` is behind `index`, and the node talks to it with
/// the address others know it by.
pub async fn add_pod(
    netlink: &Handle,
    index: u32,
    address: Ipv4Addr,
    node_ip: IpAddr,
) -> Result<(), LinkError> {
    let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(index)
        .scope(RouteScope::Link)
        .protocol(PROTOCOL);
    if let IpAddr::V4(node_ip) = node_ip {
        route = route.pref_source(node_ip);
    }
    replace(
        netlink,
        route.build(),
        format!("route {address} to link {index}"),
    )
    .await
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
pub async fn pods(netlink: &Handle) -> Result<BTreeMap<Ipv4Addr, u32>, LinkError> {
    let routes = ours(netlink).await?.into_iter();
    let pod = |message: &RouteMessage| {
        let mut address = None;
        let mut link = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => address = Some(*ip),
                RouteAttribute::Oif(index) => link = Some(*index),
                // To a peer's pods.
                RouteAttribute::Gateway(_) => return None,
                _ => {}
            }
        }
        address.zip(link)
    };
    Ok(routes.filter_map(|message| pod(&message)).collect())
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

/// Makes the peers' routes in the kernel those of `wanted`; new ones first. A
/// peer that cannot be routed to does not keep the others from it: the first
/// error is returned at the end.
pub async fn reconcile_peers(
    netlink: &Handle,
    wanted: &BTreeMap<Ipv4Net, Ipv4Addr>,
) -> Result<(), LinkError> {
    let present = peer_routes(netlink).await?;
    let mut result = Ok(());
    for (cidr, via) in wanted {
        if present
            .iter()
            .any(|(have, to, _)| have == cidr && to == via)
        {
            continue;
        }
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(cidr.network(), cidr.prefix_len())
            .gateway(*via)
            .protocol(PROTOCOL)
            .build();
        let routed = replace(netlink, route, format!("route {cidr} via {via}")).await;
        result = result.and(routed);
    }
    for (cidr, via, message) in present {
        if wanted.contains_key(&cidr) {
            continue;
        }
        match netlink.route().del(message).execute().await {
            Err(error) if is_errno(&error, nix::Error::ESRCH as i32) => {}
            removed => {
                let step = format!("remove the route to {cidr} via {via}");
                result = result.and(removed.map_err(failed(step)));
            }
        }
    }
    result
}

async fn peer_routes(
    netlink: &Handle,
) -> Result<Vec<(Ipv4Net, Ipv4Addr, RouteMessage)>, LinkError> {
    let mut peers = Vec::new();
    for message in ours(netlink).await? {
        let mut destination = None;
        let mut gateway = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                    destination = Some(*address)
                }
                RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
                _ => {}
            }
        }
        let (Some(destination), Some(gateway)) = (destination, gateway) else {
            continue;
        };
        if let Ok(cidr) = Ipv4Net::new(destination, message.header.destination_prefix_length) {
            peers.push((cidr, gateway, message));
        }
    }
    Ok(peers)
}

async fn ours(netlink: &Handle) -> Result<Vec<RouteMessage>, LinkError> {
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<RouteMessage> = netlink
        .route()
        .get(all)
        .execute()
        .try_collect()
        .await
        .map_err(failed("list routes"))?;
    let ours = routes.into_iter();
    Ok(ours
        .filter(|message| message.header.protocol == PROTOCOL)
        .collect())
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

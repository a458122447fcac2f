//! The next hops in the tunnel, which nobody asks for: permanent entries.

use std::{collections::BTreeMap, net::IpAddr};

use futures::TryStreamExt;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::{Mac, TUNNEL_LINK};
use crate::{
    link::{LinkError, failed, is_errno},
    netns::Netlink,
};

/// The permanent ones of the device.
pub async fn list(
    netlink: &Netlink,
    device: u32,
) -> Result<BTreeMap<IpAddr, (Mac, NeighbourMessage)>, LinkError> {
    let _dump = netlink.dump().await;
    let mut entries = netlink.neighbours().get().execute();
    let mut found = BTreeMap::new();
    let step = || failed("list neighbours");
    while let Some(message) = entries.try_next().await.map_err(step())? {
        let header = &message.header;
        if header.ifindex == device
            && header.state == NeighbourState::Permanent
            && let Some((ip, mac)) = parse(&message)
        {
            found.insert(ip, (mac, message));
        }
    }
    Ok(found)
}

fn parse(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some((ip?, mac?))
}

pub async fn put(netlink: &Netlink, device: u32, ip: IpAddr, mac: Mac) -> Result<(), LinkError> {
    let request = netlink.neighbours().add(device, ip);
    request
        .state(NeighbourState::Permanent)
        .link_layer_address(&mac)
        .replace()
        .execute()
        .await
        .map_err(failed(format!("add neighbour {ip} on link {TUNNEL_LINK}")))
}

pub async fn delete(netlink: &Netlink, message: NeighbourMessage) -> Result<(), LinkError> {
    match netlink.neighbours().del(message).execute().await {
        Err(error) if is_errno(&error, nix::Error::ENOENT as i32) => Ok(()),
        result => result.map_err(failed(format!("remove a neighbour on link {TUNNEL_LINK}"))),
    }
}

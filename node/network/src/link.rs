//! Links, addresses and neighbours by rtnetlink: each step may be repeated.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use futures::TryStreamExt;
use netlink_packet_route::{
    address::{AddressAttribute, AddressHeaderFlags, AddressScope},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    neighbour::NeighbourState,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use sha2::{Digest, Sha256};

use crate::netns::Netlink;

/// Every pod's gateways: link-local, so that no address of the pod CIDRs goes
/// to them, and with permanent neighbour entries, so that nobody need answer ARP
/// or neighbour solicitations.
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// That of the family of `address`.
pub fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY_V4.into(),
        IpAddr::V6(_) => GATEWAY_V6.into(),
    }
}

/// Of an address by itself.
pub fn whole(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The pod's side of the pair, unless somebody else names it.
pub const POD_LINK: &str = "eth0";

const HOST_PREFIX: &str = "vt";

#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct LinkError {
    step: String,
    source: rtnetlink::Error,
}

impl LinkError {
    /// What a step failed by that another one failed by before.
    pub fn again(step: String, before: &Self) -> Self {
        let source = before.source.clone();
        Self { step, source }
    }

    pub fn is(&self, errno: nix::Error) -> bool {
        is_errno(&self.source, errno as i32)
    }
}

pub fn failed(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let step = step.into();
    move |source| LinkError { step, source }
}

/// What of a link matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    /// The index of the veth's other side, in that side's namespace.
    pub peer: Option<u32>,
    pub is_veth: bool,
    pub mac: [u8; 6],
    pub is_up: bool,
}

/// The names and hardware addresses of one sandbox's pair. They follow from
/// the sandbox id, so that they need no record and survive every restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub host_name: String,
    pub pod_name: String,
    pub host_mac: [u8; 6],
    pub pod_mac: [u8; 6],
}

impl Pair {
    pub fn of(sandbox_id: &str) -> Self {
        Self::named(sandbox_id, POD_LINK)
    }

    /// With another name on the pod's side.
    pub fn named(sandbox_id: &str, pod_name: &str) -> Self {
        let hash = Sha256::digest(sandbox_id);
        let name: String = hash[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        // Locally administered unicast; set by us, so that udev leaves them alone.
        let mac = |last: u8| {
            [
                0x0a,
                hash[0],
                hash[1],
                hash[2],
                hash[3],
                (hash[4] & 0xfe) | last,
            ]
        };
        Self {
            host_name: format!("{HOST_PREFIX}{name}"),
            pod_name: pod_name.to_owned(),
            host_mac: mac(0),
            pod_mac: mac(1),
        }
    }

    pub fn is_host_name(name: &str) -> bool {
        name.strip_prefix(HOST_PREFIX).is_some_and(|hex| {
            hex.len() == 12
                && hex
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        })
    }
}

pub fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}

pub async fn by_name(netlink: &Handle, name: &str) -> Result<Option<Link>, LinkError> {
    let mut found = netlink.link().get().match_name(name).execute();
    match found.try_next().await {
        Ok(message) => Ok(message.map(parse)),
        Err(error) if is_errno(&error, nix::Error::ENODEV as i32) => Ok(None),
        Err(error) => Err(failed(format!("look up link {name}"))(error)),
    }
}

pub async fn list(netlink: &Netlink) -> Result<Vec<Link>, LinkError> {
    let _dump = netlink.dump().await;
    netlink
        .link()
        .get()
        .execute()
        .map_ok(parse)
        .try_collect()
        .await
        .map_err(failed("list links"))
}

/// The link that has `address`, by which the node is reached.
pub async fn owning(netlink: &Netlink, address: IpAddr) -> Result<Option<Link>, LinkError> {
    let dump = netlink.dump().await;
    let mut found = netlink.address().get().execute();
    let mut index = None;
    while let Some(message) = found.try_next().await.map_err(failed("list addresses"))? {
        let has = message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Address(ip) | AddressAttribute::Local(ip) if *ip == address)
        });
        if has {
            index = Some(message.header.index);
        }
    }
    drop(dump);
    Ok(match index {
        Some(index) => list(netlink)
            .await?
            .into_iter()
            .find(|link| link.index == index),
        None => None,
    })
}

/// Makes the pair with its pod side born in the pod's namespace: it is never
/// seen in the node's, and there is no rename or move to be killed between.
pub async fn create_pair(
    netlink: &Handle,
    pair: &Pair,
    netns: &File,
    mtu: u32,
) -> Result<(), LinkError> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(pair.pod_name.clone())
        .mtu(mtu)
        .address(pair.pod_mac.to_vec())
        .setns_by_fd(netns.as_raw_fd())
        .build();
    let message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(pair.host_name.clone())
        .mtu(mtu)
        .address(pair.host_mac.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    netlink
        .link()
        .add(message)
        .execute()
        .await
        .map_err(failed(format!("create the veth pair {}", pair.host_name)))
}

pub async fn delete(netlink: &Handle, link: &Link) -> Result<(), LinkError> {
    match netlink.link().del(link.index).execute().await {
        // The pod's namespace ended meanwhile and took the pair with it.
        Err(error) if is_errno(&error, nix::Error::ENODEV as i32) => Ok(()),
        result => result.map_err(failed(format!("delete link {}", link.name))),
    }
}

pub async fn set_up(netlink: &Handle, index: u32, mtu: Option<u32>) -> Result<(), LinkError> {
    let mut message = LinkUnspec::new_with_index(index).up();
    if let Some(mtu) = mtu {
        message = message.mtu(mtu);
    }
    netlink
        .link()
        .set(message.build())
        .execute()
        .await
        .map_err(failed(format!("set link {index} up")))
}

/// Usable at once: nobody is asked whether they have it too.
pub async fn add_address(netlink: &Handle, index: u32, address: IpAddr) -> Result<(), LinkError> {
    let add = netlink.address().add(index, address, whole(address));
    let mut request = add.replace();
    let header = &mut request.message_mut().header;
    if address.is_ipv6() {
        header.flags |= AddressHeaderFlags::Nodad;
    }
    if address == gateway(address) {
        // Known on that link alone.
        header.scope = AddressScope::Link;
    }
    request
        .execute()
        .await
        .map_err(failed(format!("add address {address} to link {index}")))
}

/// Those of one link.
pub async fn addresses(netlink: &Netlink, index: u32) -> Result<Vec<IpAddr>, LinkError> {
    let _dump = netlink.dump().await;
    let mut found = netlink.address().get().execute();
    let mut all = Vec::new();
    while let Some(message) = found.try_next().await.map_err(failed("list addresses"))? {
        if message.header.index != index {
            continue;
        }
        all.extend(
            message
                .attributes
                .iter()
                .filter_map(|attribute| match attribute {
                    AddressAttribute::Address(ip) => Some(*ip),
                    _ => None,
                }),
        );
    }
    Ok(all)
}

/// An address that nobody but this node knows.
pub async fn add_own(
    netlink: &Handle,
    index: u32,
    address: Ipv4Addr,
    name: &str,
) -> Result<(), LinkError> {
    let mut request = netlink.address().add(index, address.into(), 32).replace();
    request.message_mut().header.scope = AddressScope::Host;
    let added = request.execute().await;
    added.map_err(failed(format!("add address {address} to link {name}")))
}

pub async fn add_neighbour(
    netlink: &Handle,
    index: u32,
    address: IpAddr,
    mac: [u8; 6],
) -> Result<(), LinkError> {
    netlink
        .neighbours()
        .add(index, address)
        .state(NeighbourState::Permanent)
        .link_layer_address(&mac)
        .replace()
        .execute()
        .await
        .map_err(failed(format!("add neighbour {address} on link {index}")))
}

fn parse(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        peer: None,
        is_veth: false,
        mac: [0; 6],
        is_up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            // Of six bytes on a veth; on others it does not matter here.
            LinkAttribute::Address(mac) => link.mac = mac.try_into().unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                link.is_veth = infos
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_the_sandbox_id_and_fit_the_kernel() {
        let pair = Pair::of("0f3c");
        assert_eq!(pair, Pair::of("0f3c"));
        assert_ne!(pair.host_name, Pair::of("0f3d").host_name);
        assert!(pair.host_name.len() <= 15 && Pair::is_host_name(&pair.host_name));
        assert_ne!(pair.host_mac, pair.pod_mac);
        // Unicast, locally administered.
        assert_eq!(pair.host_mac[0] & 0b11, 0b10);
    }

    #[test]
    fn other_links_are_not_taken_for_ours() {
        for name in [
            "vt0",
            "vtap0123456789",
            "eth0",
            "vt0123456789AB",
            "vt0123456789abc",
        ] {
            assert!(!Pair::is_host_name(name), "{name}");
        }
    }
}

//! The node's one VXLAN device, for all peers that are not reached directly.
//!
//! It is in the mode that `ip link` calls `external` (`COLLECT_METADATA`): where a
//! packet goes is said by its route ([`crate::peer_route`]), so there is no
//! forwarding database, nothing is learned, and a peer whose address moves is one
//! route written anew. What is left of Ethernet in the tunnel is each node's
//! hardware address, which follows from the node's own; a permanent neighbour a
//! peer has it, and nobody asks by ARP or neighbour discovery.

pub mod neighbours;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::{Error::RequestFailed, LinkUnspec, LinkVxlan};
use sha2::{Digest, Sha256};

use crate::{
    link::{self, LinkError, failed, is_errno},
    netns::Netlink,
    way::VxlanMode,
};

/// The device's name, by which programs and people find it.
pub const TUNNEL_LINK: &str = "vetch.vxlan";

/// Of the tunnel between nodes; all but the mode is the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub mode: VxlanMode,
    /// UDP. The registered one (RFC 7348, 8) unless another device of the node
    /// has it: network cards look into packets for that alone, and the kernel's
    /// own default, 8472, is where flannel and Cilium are.
    pub port: u16,
    /// The network's identifier, of 24 bits. What comes with another is another's.
    pub vni: u32,
}

impl Vxlan {
    pub const PORT: u16 = 4789;
    /// As our routes are marked.
    pub const VNI: u32 = 86;
}

impl Default for Vxlan {
    fn default() -> Self {
        Self {
            mode: VxlanMode::default(),
            port: Self::PORT,
            vni: Self::VNI,
        }
    }
}

/// The device's own. A link without any is held to the strict reverse path filter
/// where a loose one is asked for (`fib_validate_source`), and would take from a peer
/// only what goes back to that peer. Of the loopback network, so that nobody asks
/// for it on a link and nothing is sent with it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 86, 0, 1);

pub type Mac = [u8; 6];

/// The hardware address in the tunnel of the node with this address. Locally
/// administered unicast.
pub fn mac(node: IpAddr) -> Mac {
    let hash = match node {
        IpAddr::V4(node) => Sha256::digest(node.octets()),
        IpAddr::V6(node) => Sha256::digest(node.octets()),
    };
    [0x0a, hash[0], hash[1], hash[2], hash[3], hash[4]]
}

/// Whom a route in the tunnel names as its next hop, for packets of a family.
/// Linux takes any address of IPv4 there, and of IPv6 none but link-local ones
/// where the other is routed to by another link.
pub fn gateway(node: IpAddr, v4: bool) -> IpAddr {
    match node {
        IpAddr::V4(_) if v4 => node,
        _ => link_local(mac(node)).into(),
    }
}

/// As the kernel makes it of a hardware address (RFC 4291, appendix A).
fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    const UNIVERSAL: u8 = 2;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        word(a ^ UNIVERSAL, b),
        word(c, 0xff),
        word(0xfe, d),
        word(e, f),
    )
}

/// What of the device matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub index: u32,
    pub mtu: u32,
    pub mac: Mac,
    pub is_up: bool,
    /// `None`: no VXLAN device at all.
    pub kind: Option<Kind>,
}

/// What a device cannot be changed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub external: bool,
    pub port: u16,
}

/// What the device is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub port: u16,
    pub mtu: u32,
    pub mac: Mac,
}

/// From what there is to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Keep,
    Change,
    Make,
    MakeAnew,
}

pub fn decide(wanted: &Wanted, found: Option<&Device>) -> Step {
    let Some(found) = found else {
        return Step::Make;
    };
    let kind = Kind {
        external: true,
        port: wanted.port,
    };
    if found.kind != Some(kind) {
        return Step::MakeAnew;
    }
    if found.is_up && found.mtu == wanted.mtu && found.mac == wanted.mac {
        return Step::Keep;
    }
    Step::Change
}

pub async fn find(netlink: &Netlink) -> Result<Option<Device>, LinkError> {
    let mut found = netlink.link().get().match_name(TUNNEL_LINK).execute();
    match found.try_next().await {
        Ok(message) => Ok(message.as_ref().map(parse)),
        Err(error) if is_errno(&error, nix::Error::ENODEV as i32) => Ok(None),
        Err(error) => Err(failed(format!("look up link {TUNNEL_LINK}"))(error)),
    }
}

/// Makes the device what is wanted; answers its index, and whether anything had to
/// be done.
pub async fn ensure(netlink: &Netlink, wanted: &Wanted) -> Result<(u32, bool), LinkError> {
    let found = find(netlink).await?;
    match (decide(wanted, found.as_ref()), &found) {
        (Step::Keep, Some(device)) => return Ok((device.index, false)),
        (Step::Change, Some(device)) => change(netlink, device.index, wanted).await?,
        (Step::MakeAnew, Some(device)) => {
            delete(netlink, device.index).await?;
            make(netlink, wanted).await?;
        }
        _ => make(netlink, wanted).await?,
    }
    let made = find(netlink).await?;
    if let Some(device) = &made {
        link::add_own(netlink, device.index, ADDRESS, TUNNEL_LINK).await?;
    }
    let gone = || failed(format!("find link {TUNNEL_LINK}, which was made"))(RequestFailed);
    Ok((made.ok_or_else(gone)?.index, true))
}

const ENODEV: nix::Error = nix::Error::ENODEV;

async fn make(netlink: &Netlink, wanted: &Wanted) -> Result<(), LinkError> {
    let device = LinkVxlan::new(TUNNEL_LINK, 0)
        .collect_metadata(true)
        .learning(false)
        .port(wanted.port)
        .mtu(wanted.mtu)
        .address(wanted.mac.to_vec())
        .up()
        .build();
    let step = format!(
        "create the VXLAN device {TUNNEL_LINK} on UDP port {} (does this kernel have vxlan, and no \
         other device the port?)",
        wanted.port
    );
    let made = netlink.link().add(device).execute().await;
    made.map_err(failed(step))
}

async fn change(netlink: &Netlink, index: u32, wanted: &Wanted) -> Result<(), LinkError> {
    let message = LinkUnspec::new_with_index(index)
        .mtu(wanted.mtu)
        .address(wanted.mac.to_vec())
        .up()
        .build();
    let changed = netlink.link().set(message).execute().await;
    changed.map_err(failed(format!("change link {TUNNEL_LINK}")))
}

async fn delete(netlink: &Netlink, index: u32) -> Result<(), LinkError> {
    match netlink.link().del(index).execute().await {
        Err(error) if is_errno(&error, ENODEV as i32) => Ok(()),
        result => result.map_err(failed(format!("delete link {TUNNEL_LINK}"))),
    }
}

/// Its routes and neighbours go with it.
pub async fn remove(netlink: &Netlink) -> Result<(), LinkError> {
    match find(netlink).await? {
        Some(device) => delete(netlink, device.index).await,
        None => Ok(()),
    }
}

fn parse(message: &LinkMessage) -> Device {
    let mut device = Device {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        ..Device::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Address(mac) => {
                device.mac = mac.as_slice().try_into().unwrap_or_default();
            }
            LinkAttribute::LinkInfo(infos) => device.kind = kind(infos),
            _ => {}
        }
    }
    device
}

fn kind(infos: &[LinkInfo]) -> Option<Kind> {
    let is_vxlan = infos.contains(&LinkInfo::Kind(InfoKind::Vxlan));
    let mut kind = is_vxlan.then(Kind::default)?;
    for info in infos {
        let LinkInfo::Data(InfoData::Vxlan(attributes)) = info else {
            continue;
        };
        for attribute in attributes {
            match attribute {
                InfoVxlan::CollectMetadata(external) => kind.external = *external,
                InfoVxlan::Port(port) => kind.port = *port,
                _ => {}
            }
        }
    }
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_hardware_address_follows_from_its_own() {
        let node = |ip: &str| ip.parse::<IpAddr>().unwrap();
        let (one, other) = (node("172.30.0.3"), node("172.30.0.4"));
        assert_eq!(mac(one), mac(one));
        assert_ne!(mac(one), mac(other));
        assert_ne!(mac(one), mac(node("::ffff:172.30.0.3")));
        // Unicast, locally administered.
        assert_eq!(mac(one)[0] & 0b11, 0b10);
    }

    #[test]
    fn next_hops_in_the_tunnel() {
        let (v4, v6): (IpAddr, IpAddr) =
            ("172.30.0.3".parse().unwrap(), "fd00::3".parse().unwrap());
        assert_eq!(gateway(v4, true), v4);
        for (node, family) in [(v4, false), (v6, true), (v6, false)] {
            let IpAddr::V6(gateway) = gateway(node, family) else {
                panic!("{node}");
            };
            assert!(gateway.is_unicast_link_local(), "{gateway}");
        }
        assert_ne!(gateway(v4, false), gateway(v6, false));
        // What `ip addr` shows of a link with this hardware address.
        let expected: Ipv6Addr = "fe80::886:aff:fe01:2".parse().unwrap();
        assert_eq!(link_local([0x0a, 0x86, 0x0a, 0x01, 0x00, 0x02]), expected);
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let wanted = Wanted {
            port: 4789,
            mtu: 1450,
            mac: [2; 6],
        };
        let right = Device {
            index: 7,
            mtu: 1450,
            mac: [2; 6],
            is_up: true,
            kind: Some(Kind {
                external: true,
                port: 4789,
            }),
        };
        let with = |change: fn(&mut Device)| {
            let mut device = right.clone();
            change(&mut device);
            Some(device)
        };
        let table = [
            ("nothing", None, Step::Make),
            ("right", Some(right.clone()), Step::Keep),
            ("down", with(|device| device.is_up = false), Step::Change),
            (
                "uplink's MTU",
                with(|device| device.mtu = 8950),
                Step::Change,
            ),
            (
                "node's address",
                with(|device| device.mac = [3; 6]),
                Step::Change,
            ),
            (
                "no VXLAN",
                with(|device| device.kind = None),
                Step::MakeAnew,
            ),
            (
                "another port",
                with(|device| {
                    device.kind = Some(Kind {
                        external: true,
                        port: 8472,
                    })
                }),
                Step::MakeAnew,
            ),
            (
                "with a peer of its own",
                with(|device| {
                    device.kind = Some(Kind {
                        external: false,
                        port: 4789,
                    })
                }),
                Step::MakeAnew,
            ),
        ];
        for (what, found, step) in table {
            assert_eq!(decide(&wanted, found.as_ref()), step, "{what}");
        }
    }

    #[test]
    fn a_device_as_the_kernel_shows_it() {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.flags = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(TUNNEL_LINK.into()),
            LinkAttribute::Mtu(1450),
            LinkAttribute::Address(vec![2; 6]),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::Id(0),
                    InfoVxlan::CollectMetadata(true),
                    InfoVxlan::Port(4789),
                ])),
            ]),
        ];
        let wanted = Wanted {
            port: 4789,
            mtu: 1450,
            mac: [2; 6],
        };
        assert_eq!(decide(&wanted, Some(&parse(&message))), Step::Keep);
        message.attributes.pop();
        assert_eq!(parse(&message).kind, None);
    }
}

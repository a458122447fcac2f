//! Saying on the link where load balancers' addresses are.
//!
//! Input: the addresses this node announces and its uplinks. Output: frames,
//! three times within a second for each new address, and the multicast groups
//! by which neighbour solicitations for it come here. Answering them is the
//! programs' part. Best effort: a neighbour that missed all three asks.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use k8s_openapi::api::core::v1::Service;
use tracing::{debug, warn};
use vetch_ebpf_common::{ALL_NODES_MAC, Advertisement, Arp, Mac};

use crate::sys::PacketSocket;

pub mod claimer;
pub mod claims;
pub mod probe;
#[cfg(test)]
mod tests;

/// Written by `vetch-control`: the node that answers for the Service's addresses.
pub const ANNOUNCED_BY: &str = "vetch.dev/announced-by";

/// The addresses of a Service that `node` announces.
pub fn announced(service: &Service, node: &str) -> BTreeSet<IpAddr> {
    let annotations = service.metadata.annotations.as_ref();
    let by = annotations.and_then(|annotations| annotations.get(ANNOUNCED_BY));
    let spec = service.spec.as_ref();
    let type_ = spec.and_then(|spec| spec.type_.as_deref());
    if by.map(String::as_str) != Some(node) || type_ != Some("LoadBalancer") {
        return BTreeSet::new();
    }
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        // What is not said is VIP; a proxy's address is the proxy's to announce.
        .filter(|ingress| ingress.ip_mode.as_deref().unwrap_or("VIP") == "VIP")
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect()
}

/// An interface by which the node reaches others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uplink {
    pub index: u32,
    pub mac: Mac,
    pub mtu: u32,
}

/// Keeps the link informed of what this node announces.
#[derive(Debug, Default)]
pub struct Announcer {
    known: BTreeSet<(Uplink, IpAddr)>,
    groups: Groups,
}

/// When an announcement is repeated.
const PAUSE: Duration = Duration::from_millis(400);
const TIMES: usize = 3;

impl Announcer {
    /// Announces what is new, of address or uplink; returns at once. The
    /// programs must know the addresses by then. Runs in the node's network
    /// namespace, inside a tokio runtime.
    pub fn set(&mut self, uplinks: &[Uplink], addresses: &BTreeSet<IpAddr>) {
        let wanted: BTreeSet<(Uplink, IpAddr)> = uplinks
            .iter()
            .flat_map(|uplink| addresses.iter().map(|address| (*uplink, *address)))
            .collect();
        self.groups.set(groups(&wanted));
        let fresh: Vec<_> = wanted.difference(&self.known).copied().collect();
        self.known = wanted;
        if !fresh.is_empty() {
            debug!(?fresh, "announced");
            tokio::spawn(announce(fresh));
        }
    }
}

async fn announce(addresses: Vec<(Uplink, IpAddr)>) {
    let socket = match PacketSocket::open() {
        Ok(socket) => socket,
        Err(error) => {
            warn!(%error, "cannot announce addresses: no packet socket");
            return;
        }
    };
    for time in 0..TIMES {
        if time > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        for (uplink, address) in &addresses {
            if let Err(error) = socket.send(uplink.index, &frame(uplink.mac, *address)) {
                debug!(%address, interface = uplink.index, %error, "not announced");
            }
        }
    }
}

/// The whole Ethernet frame that announces `address`.
fn frame(mac: Mac, address: IpAddr) -> Vec<u8> {
    const BROADCAST: Mac = [0xff; 6];
    const ETH_P_ARP: [u8; 2] = [0x08, 0x06];
    const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];
    match address {
        IpAddr::V4(address) => {
            let arp = Arp::announcement(mac, address.octets()).bytes();
            [&BROADCAST[..], &mac, &ETH_P_ARP, &arp].concat()
        }
        IpAddr::V6(_) => {
            let advertisement = Advertisement::announcement(mac, address.into()).bytes();
            [&ALL_NODES_MAC[..], &mac, &ETH_P_IPV6, &advertisement].concat()
        }
    }
}

/// The groups to be in, by interface.
fn groups(wanted: &BTreeSet<(Uplink, IpAddr)>) -> BTreeSet<(u32, Ipv6Addr)> {
    wanted
        .iter()
        .filter_map(|(uplink, address)| match address {
            IpAddr::V6(address) => Some((uplink.index, solicited_node(*address))),
            IpAddr::V4(_) => None,
        })
        .collect()
}

/// Where solicitations for an address go (RFC 4291, 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0xff, h)
}

/// Multicast groups, left when this goes. Without them a network card, or a
/// switch that listens to MLD, keeps the solicitations to itself. One socket
/// takes some hundred (`net.core.optmem_max`).
#[derive(Debug, Default)]
struct Groups {
    socket: Option<UdpSocket>,
    joined: BTreeSet<(u32, Ipv6Addr)>,
}

impl Groups {
    fn set(&mut self, wanted: BTreeSet<(u32, Ipv6Addr)>) {
        if let Err(error) = self.try_set(wanted) {
            warn!(%error, "neighbour solicitations for announced addresses may not come here");
        }
    }

    /// Goes on after a group that cannot be joined; it is tried again next time.
    fn try_set(&mut self, wanted: BTreeSet<(u32, Ipv6Addr)>) -> io::Result<()> {
        if wanted.is_empty() {
            *self = Self::default();
            return Ok(());
        }
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(UdpSocket::bind("[::]:0")?),
        };
        let mut result = Ok(());
        let (old, joined) = (std::mem::take(&mut self.joined), &mut self.joined);
        for group in &old - &wanted {
            // An interface that is gone has left its groups.
            let _ = socket.leave_multicast_v6(&group.1, group.0);
        }
        for group in wanted {
            if !old.contains(&group)
                && let Err(error) = socket.join_multicast_v6(&group.1, group.0)
            {
                result = Err(error);
                continue;
            }
            joined.insert(group);
        }
        result
    }
}

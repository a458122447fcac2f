//! Asks the link who has an address, as a host that has none there: ARP probes
//! (RFC 5227, 2.1.1), and solicitations as of duplicate address detection
//! (RFC 4862, 5.4.2), which touch nobody's tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    net::{IpAddr, Ipv6Addr, UdpSocket},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_indextoname,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt::BindToDevice,
    },
};
use tracing::debug;
use vetch_ebpf_common::{Arp, Mac, neighbour_claim, neighbour_probe};

use super::{Uplink, solicited_node};
use crate::sys::PacketSocket;

/// How often it is asked, and how long an answer is waited for each time. RFC 5227
/// has hosts take three to nine seconds over it; a Service's address that moves to
/// another node is not to be away so long.
const TIMES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// Before an ARP packet in its frame.
const ETHERNET: usize = 14;

/// Which hosts beyond the uplinks answer for the addresses. The node itself is
/// none of them, and neither are the other `nodes`, which are asked for when there
/// is somebody to tell them from: they know what is whose. Blocks for up to a
/// second, in the calling thread's network namespace.
pub fn who_has(
    uplinks: &[Uplink],
    addresses: &BTreeSet<IpAddr>,
    nodes: &BTreeSet<IpAddr>,
) -> io::Result<BTreeMap<IpAddr, Mac>> {
    let mut heard = ask(uplinks, addresses, TIMES)?;
    let own = uplinks.iter().map(|uplink| uplink.mac);
    let own: BTreeSet<Mac> = own.collect();
    heard.retain(|_, mac| !own.contains(mac));
    if heard.is_empty() || nodes.is_empty() {
        return Ok(heard);
    }
    let theirs: BTreeSet<Mac> = ask(uplinks, nodes, 1)?.into_values().collect();
    heard.retain(|_, mac| !theirs.contains(mac));
    Ok(heard)
}

fn ask(
    uplinks: &[Uplink],
    addresses: &BTreeSet<IpAddr>,
    times: u32,
) -> io::Result<BTreeMap<IpAddr, Mac>> {
    let mut heard = BTreeMap::new();
    if uplinks.is_empty() || addresses.is_empty() {
        return Ok(heard);
    }
    let listeners: Vec<Listener> = uplinks
        .iter()
        .map(|uplink| Listener::open(*uplink, addresses))
        .collect::<io::Result<_>>()?;
    for _ in 0..times {
        for listener in &listeners {
            for address in addresses.iter().filter(|own| !heard.contains_key(*own)) {
                listener.ask(*address);
            }
        }
        let deadline = Instant::now() + PAUSE;
        while heard.len() < addresses.len() && wait(&listeners, deadline)? {
            for listener in &listeners {
                listener.take(addresses, &mut heard);
            }
        }
    }
    Ok(heard)
}

/// At one uplink.
struct Listener {
    uplink: Uplink,
    arp: PacketSocket,
    /// Of all that the link says by ICMPv6; none where nobody asks by that.
    icmp: Option<UdpSocket>,
}

impl Listener {
    fn open(uplink: Uplink, addresses: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let v6 = addresses.iter().any(IpAddr::is_ipv6);
        Ok(Self {
            uplink,
            arp: PacketSocket::listen(ETH_P_ARP, uplink.index)?,
            icmp: v6.then(|| icmp(uplink)).transpose()?,
        })
    }

    /// Best effort: it is asked again.
    fn ask(&self, address: IpAddr) {
        let Uplink { index, mac, .. } = self.uplink;
        if let Err(error) = self.arp.send(index, &frame(mac, address)) {
            debug!(%address, interface = index, %error, "not asked for");
        }
    }

    /// All that has come.
    fn take(&self, addresses: &BTreeSet<IpAddr>, heard: &mut BTreeMap<IpAddr, Mac>) {
        let mut bytes = [0; 1600];
        let mut note = |address: IpAddr, mac: Mac| {
            if addresses.contains(&address) {
                heard.entry(address).or_insert(mac);
            }
        };
        while let Ok(count) = self.arp.receive(&mut bytes) {
            let packet = bytes.get(ETHERNET..count).unwrap_or_default();
            if let Some((address, mac)) = Arp::claim(packet) {
                note(address.into(), mac);
            }
        }
        while let Some(icmp) = &self.icmp
            && let Ok(count) = icmp.recv(&mut bytes)
        {
            if let Some((address, mac)) = neighbour_claim(&bytes[..count]) {
                note(Ipv6Addr::from(address).into(), mac);
            }
        }
    }
}

/// Of a raw socket the calls are a datagram socket's. It is at the uplink alone: pods
/// may say what they like.
fn icmp(uplink: Uplink) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(
        AddressFamily::Inet6,
        SockType::Raw,
        flags,
        SockProtocol::IcmpV6,
    )?;
    let name = if_indextoname(uplink.index)?;
    let name = name.to_string_lossy().into_owned().into();
    setsockopt(&made, BindToDevice, &name)?;
    Ok(UdpSocket::from(made))
}

/// Whether something came before the deadline.
fn wait(listeners: &[Listener], deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let sockets = listeners.iter().flat_map(|listener| {
        let icmp = listener.icmp.as_ref().map(|icmp| icmp.as_fd());
        [Some(listener.arp.as_fd()), icmp]
    });
    let mut sockets: Vec<PollFd<'_>> = sockets
        .flatten()
        .map(|socket| PollFd::new(socket, PollFlags::POLLIN))
        .collect();
    // A millisecond more than there is of the last one.
    let limit = PollTimeout::try_from(left + Duration::from_millis(1));
    let limit = limit.map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    match poll(&mut sockets, limit) {
        Ok(count) => Ok(count > 0),
        Err(nix::errno::Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The whole Ethernet frame that asks for `address`.
fn frame(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let arp = Arp::probe(mac, address.octets()).bytes();
            [&[0xff; 6][..], &mac, &ETH_P_ARP.to_be_bytes(), &arp].concat()
        }
        IpAddr::V6(address) => {
            let group = solicited_node(address);
            let [.., a, b, c, d] = group.octets();
            let to = [0x33, 0x33, a, b, c, d];
            let asked = neighbour_probe(IpAddr::V6(address).into(), IpAddr::V6(group).into());
            [&to[..], &mac, &ETH_P_IPV6.to_be_bytes(), &asked].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_byte_by_byte() {
        let mac = [2, 0, 0, 0, 0, 1];
        let expected = [
            [0xff; 6].to_vec(),
            mac.to_vec(),
            vec![8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            mac.to_vec(),
            vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7],
        ];
        assert_eq!(frame(mac, "192.0.2.7".parse().unwrap()), expected.concat());
        let asked = frame(mac, "2001:db8::12ab:cdef".parse().unwrap());
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]);
        assert_eq!(asked[6..14], [2, 0, 0, 0, 0, 1, 0x86, 0xdd]);
        assert_eq!(asked.len(), 14 + 64);
    }

    #[test]
    fn without_a_link_nobody_is_asked() {
        let vip = BTreeSet::from(["192.0.2.7".parse().unwrap()]);
        assert_eq!(who_has(&[], &vip, &vip).unwrap(), BTreeMap::new());
    }
}

//! From a frame to the flow that it belongs to.

mod ip;

pub use ip::{Fragment, Header};

use vetch_ebpf_common::{Address, Endpoint, Protocol, Tuple, tunnel};

use crate::{
    access::{Context, Short, read, read_at},
    fragments,
    verdict::Error,
};

/// Of a frame without VLAN tag.
pub const ETH_HEADER: u32 = 14;
const ETHERTYPE: u32 = 12;
const VLAN_TAG: u32 = 4;
/// A tag within a tag is all that links carry.
const MAX_TAGS: u32 = 2;
/// Of a packet without options, extension headers or VLAN tag.
const AFTER_IPV4: u32 = ETH_HEADER + 20;
const AFTER_IPV6: u32 = ETH_HEADER + 40;

const ETH_P_IP: [u8; 2] = [0x08, 0x00];
const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];
const ETH_P_8021AD: [u8; 2] = [0x88, 0xa8];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// ICMP's header; behind it an error quotes the packet that caused it.
const ICMP_HEADER: u32 = 8;
/// In it, the number by which a host tells its questions from others'.
pub const ICMP_IDENTIFIER: u32 = 4;

pub struct Packet {
    pub src: Address,
    pub dst: Address,
    /// Of an ICMP error: the tuple of an answer to the packet it quotes,
    /// because that is what the flow's other half is found by.
    pub tuple: Tuple,
    pub ip: Header,
    /// The header of the packet that an ICMP error quotes.
    pub quoted: Header,
    pub kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Other protocols, and ICMP that is neither about another packet nor an echo.
    Other,
    /// Has ports.
    Transport,
    /// Has none, but those of its datagram's first one hold.
    LaterFragment,
    /// An ICMP echo request: its identifier is the source port, there is no other…
    Echo,
    /// …and the answer's is the destination port.
    EchoAnswer,
    IcmpError,
    /// About a packet of a tunnel's; what that had inside is looked at by who
    /// asks.
    TunnelError,
}

impl Packet {
    /// 0 unless it is TCP and its flags are in it.
    #[inline(always)]
    pub fn tcp_flags(&self, ctx: &impl Context) -> u8 {
        const FLAGS: u32 = 13;
        if self.kind != Kind::Transport || self.tuple.protocol != Protocol::Tcp as u8 {
            return 0;
        }
        match self.ip.l4 {
            AFTER_IPV4 => read_at::<{ AFTER_IPV4 + FLAGS }, u8>(ctx),
            AFTER_IPV6 => read_at::<{ AFTER_IPV6 + FLAGS }, u8>(ctx),
            elsewhere => read(ctx, elsewhere + FLAGS),
        }
        .unwrap_or(0)
    }
}

/// Non-IP frames and neighbour discovery end in [`Error::Pass`].
#[inline(never)]
pub fn parse(ctx: &impl Context, packet: &mut Packet) -> Result<(), Error> {
    let (l3, v4) = ethernet(ctx)?;
    let (src, dst) = ip::outer(ctx, l3, v4, &mut packet.ip)?;
    packet.src = src;
    packet.dst = dst;
    packet.kind = Kind::Other;
    let protocol = packet.ip.protocol;
    let host = |address| Endpoint::new(address, [0; 2]);
    packet.tuple = Tuple::new(host(src), host(dst), protocol);
    if packet.ip.fragment == Fragment::Later {
        packet.kind = Kind::LaterFragment;
    } else if has_ports(protocol) {
        let [sport, dport] = ports(ctx, packet.ip.l4)?;
        packet.tuple.sport = sport;
        packet.tuple.dport = dport;
        packet.kind = Kind::Transport;
    } else if protocol == if v4 { ICMP } else { ICMPV6 } {
        icmp(ctx, packet, v4)?;
    }
    if packet.ip.fragment != Fragment::Whole {
        fragments::follow(packet);
    }
    Ok(())
}

#[inline(always)]
fn ethernet(ctx: &impl Context) -> Result<(u32, bool), Error> {
    let mut at = ETHERTYPE;
    let mut kind = read_at::<ETHERTYPE, _>(ctx)?;
    for _ in 0..MAX_TAGS {
        if !matches!(kind, ETH_P_8021Q | ETH_P_8021AD) {
            break;
        }
        at += VLAN_TAG;
        kind = read(ctx, at)?;
    }
    match kind {
        ETH_P_IP => Ok((at + 2, true)),
        ETH_P_IPV6 => Ok((at + 2, false)),
        _ => Err(Error::Pass),
    }
}

#[inline(always)]
fn ports(ctx: &impl Context, l4: u32) -> Result<[[u8; 2]; 2], Short> {
    match l4 {
        AFTER_IPV4 => read_at::<AFTER_IPV4, _>(ctx),
        AFTER_IPV6 => read_at::<AFTER_IPV6, _>(ctx),
        elsewhere => read(ctx, elsewhere),
    }
}

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    Protocol::try_from(protocol).is_ok()
}

#[inline(always)]
fn icmp(ctx: &impl Context, packet: &mut Packet, v4: bool) -> Result<(), Error> {
    let [kind]: [u8; 1] = read(ctx, packet.ip.l4)?;
    if let Some(ports) = echo(ctx, packet.ip.l4, kind, v4)? {
        packet.tuple.set_ports(ports);
        packet.kind = if kind == ECHO_REQUEST[usize::from(v4)] {
            Kind::Echo
        } else {
            Kind::EchoAnswer
        };
        return Ok(());
    }
    match kind {
        // Unreachable, time exceeded, parameter problem.
        3 | 11 | 12 if v4 => {}
        // Those and packet too big.
        1..=4 if !v4 => {}
        // Neighbour discovery is between the two ends of a link.
        133..=137 if !v4 => return Err(Error::Pass),
        _ => return Ok(()),
    }
    let quote = packet.ip.l4 + ICMP_HEADER;
    match quoted_tuple(ctx, quote, v4, &mut packet.quoted) {
        Ok(tuple) => {
            packet.tuple = tuple.reverse();
            packet.kind = Kind::IcmpError;
        }
        Err(Error::Pass) if packet.quoted.protocol == tunnel::protocol(v4) => {
            packet.kind = Kind::TunnelError;
        }
        Err(_) => {}
    }
    Ok(())
}

/// Of IPv6, and of IPv4.
const ECHO_REQUEST: [u8; 2] = [128, 8];
const ECHO_REPLY: [u8; 2] = [129, 0];

/// What an echo's identifier stands for, both ports as they would stand in a
/// packet; none of other kinds of ICMP.
#[inline(always)]
fn echo(ctx: &impl Context, l4: u32, kind: u8, v4: bool) -> Result<Option<u32>, Short> {
    let is_request = kind == ECHO_REQUEST[usize::from(v4)];
    if !is_request && kind != ECHO_REPLY[usize::from(v4)] {
        return Ok(None);
    }
    let [a, b]: [u8; 2] = read(ctx, l4 + ICMP_IDENTIFIER)?;
    Ok(Some(u32::from_ne_bytes(if is_request {
        [a, b, 0, 0]
    } else {
        [0, 0, a, b]
    })))
}

/// Of a packet that another one quotes, at `quote`. [`Error::Pass`] if it has no
/// ports.
#[inline(always)]
pub fn quoted_tuple(
    ctx: &impl Context,
    quote: u32,
    v4: bool,
    header: &mut Header,
) -> Result<Tuple, Error> {
    let (src, dst) = ip::quoted(ctx, quote, v4, header)?;
    if header.fragment == Fragment::Later {
        return Err(Error::Pass);
    }
    let ports = if has_ports(header.protocol) {
        read(ctx, header.l4)?
    } else if header.protocol == if v4 { ICMP } else { ICMPV6 } {
        let [kind]: [u8; 1] = read(ctx, header.l4)?;
        echo(ctx, header.l4, kind, v4)?.ok_or(Error::Pass)?
    } else {
        return Err(Error::Pass);
    };
    let host = |address| Endpoint::new(address, [0; 2]);
    let mut tuple = Tuple::new(host(src), host(dst), header.protocol);
    tuple.set_ports(ports);
    Ok(tuple)
}

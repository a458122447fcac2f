//! From a frame to the flow that it belongs to.

use aya_ebpf::programs::TcContext;
use vetch_ebpf_common::{Address, Protocol, Tuple};

use crate::{access::read, verdict::Error};

/// Of a frame without VLAN tag.
pub const ETH_HEADER: usize = 14;
const ETHERTYPE: usize = 12;
const VLAN_TAG: usize = 4;
/// A tag within a tag is all that links carry.
const MAX_TAGS: usize = 2;

const ETH_P_IP: [u8; 2] = [0x08, 0x00];
const ETH_P_IPV6: [u8; 2] = [0x86, 0xdd];
const ETH_P_8021Q: [u8; 2] = [0x81, 0x00];
const ETH_P_8021AD: [u8; 2] = [0x88, 0xa8];

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// ICMP's header; behind it an error quotes the packet that caused it.
const ICMP_HEADER: usize = 8;

pub struct Packet {
    /// Of an ICMP error: the tuple of an answer to the packet it quotes,
    /// because that is what the flow's other half is found by.
    pub tuple: Tuple,
    pub ip: Header,
    pub kind: Kind,
}

pub enum Kind {
    /// Has ports.
    Transport,
    /// Has none, but those of its datagram's first one hold.
    LaterFragment,
    IcmpError {
        quoted: Header,
    },
    /// Other protocols, and ICMP that is not about another packet.
    Other,
}

/// Where an IP packet is in the frame.
#[derive(Clone, Copy)]
pub struct Header {
    pub v4: bool,
    pub l3: usize,
    pub l4: usize,
    pub protocol: u8,
    pub fragment: Fragment,
}

#[derive(Clone, Copy)]
pub enum Fragment {
    Whole,
    /// With the datagram's identification, in network order.
    First(u32),
    Later(u32),
}

/// Non-IP frames and neighbour discovery end in [`Error::Pass`].
#[inline(always)]
pub fn parse(ctx: &TcContext) -> Result<Packet, Error> {
    let (l3, v4) = ethernet(ctx)?;
    let (src, dst, ip) = network(ctx, l3, v4)?;
    let mut tuple = Tuple::new(src, dst, [0; 2], [0; 2], ip.protocol);
    let kind = match ip.fragment {
        Fragment::Later(_) => Kind::LaterFragment,
        _ if has_ports(ip.protocol) => {
            [tuple.sport, tuple.dport] = read(ctx, ip.l4)?;
            Kind::Transport
        }
        _ => icmp(ctx, &mut tuple, &ip)?,
    };
    Ok(Packet { tuple, ip, kind })
}

/// Where the IP header is, and whether it is IPv4's.
#[inline(always)]
pub fn ethernet(ctx: &TcContext) -> Result<(usize, bool), Error> {
    let mut at = ETHERTYPE;
    for _ in 0..=MAX_TAGS {
        match read(ctx, at)? {
            ETH_P_IP => return Ok((at + 2, true)),
            ETH_P_IPV6 => return Ok((at + 2, false)),
            ETH_P_8021Q | ETH_P_8021AD => at += VLAN_TAG,
            _ => break,
        }
    }
    Err(Error::Pass)
}

/// The IP header at `l3`, with its addresses.
#[inline(always)]
pub fn network(ctx: &TcContext, l3: usize, v4: bool) -> Result<(Address, Address, Header), Error> {
    if v4 { ipv4(ctx, l3) } else { ipv6(ctx, l3) }
}

#[inline(always)]
fn ipv4(ctx: &TcContext, l3: usize) -> Result<(Address, Address, Header), Error> {
    const MORE_FRAGMENTS: u16 = 0x2000;
    const OFFSET: u16 = 0x1fff;
    let [first, second, third, src, dst]: [u32; 5] = read(ctx, l3)?;
    let [version_ihl, ..] = first.to_ne_bytes();
    let [id_high, id_low, offset_high, offset_low] = second.to_ne_bytes();
    let [_, protocol, ..] = third.to_ne_bytes();
    let words = (version_ihl & 0xf) as usize;
    if version_ihl >> 4 != 4 || words < 5 {
        return Err(Error::SHORT);
    }
    let offset = u16::from_be_bytes([offset_high, offset_low]);
    let id = u32::from_ne_bytes([id_high, id_low, 0, 0]);
    let fragment = if offset & OFFSET != 0 {
        Fragment::Later(id)
    } else if offset & MORE_FRAGMENTS != 0 {
        Fragment::First(id)
    } else {
        Fragment::Whole
    };
    let header = Header {
        v4: true,
        l3,
        l4: l3 + words * 4,
        protocol,
        fragment,
    };
    Ok((Address::v4_bits(src), Address::v4_bits(dst), header))
}

/// Extension headers that a packet may have before it is none of our business.
const MAX_EXTENSIONS: usize = 6;

#[inline(always)]
fn ipv6(ctx: &TcContext, l3: usize) -> Result<(Address, Address, Header), Error> {
    const HEADER: usize = 40;
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let [first, second, words @ ..]: [u32; 10] = read(ctx, l3)?;
    if first.to_ne_bytes()[0] >> 4 != 6 {
        return Err(Error::SHORT);
    }
    let [a, b, c, d, e, f, g, h] = words;
    let (src, dst) = (
        Address::v6_bits([a, b, c, d]),
        Address::v6_bits([e, f, g, h]),
    );
    let [_, _, mut protocol, _] = second.to_ne_bytes();
    let mut l4 = l3 + HEADER;
    let mut fragment = Fragment::Whole;
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                let [next, eights]: [u8; 2] = read(ctx, l4)?;
                protocol = next;
                l4 += 8 + eights as usize * 8;
            }
            FRAGMENT => {
                let [head, id]: [u32; 2] = read(ctx, l4)?;
                let [next, _, offset_high, offset_low] = head.to_ne_bytes();
                let offset = u16::from_be_bytes([offset_high, offset_low]);
                protocol = next;
                l4 += 8;
                if offset & 0xfff8 != 0 {
                    fragment = Fragment::Later(id);
                    break;
                }
                // An atomic fragment (RFC 6946) is whole.
                if offset & 1 != 0 {
                    fragment = Fragment::First(id);
                }
            }
            _ => break,
        }
    }
    let header = Header {
        v4: false,
        l3,
        l4,
        protocol,
        fragment,
    };
    Ok((src, dst, header))
}

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    Protocol::try_from(protocol).is_ok()
}

#[inline(always)]
fn icmp(ctx: &TcContext, tuple: &mut Tuple, ip: &Header) -> Result<Kind, Error> {
    if ip.protocol != if ip.v4 { ICMP } else { ICMPV6 } {
        return Ok(Kind::Other);
    }
    let [kind]: [u8; 1] = read(ctx, ip.l4)?;
    let is_error = match kind {
        // Unreachable, time exceeded, parameter problem.
        3 | 11 | 12 if ip.v4 => true,
        // Those and packet too big.
        1..=4 if !ip.v4 => true,
        // Neighbour discovery is between the two ends of a link.
        133..=137 if !ip.v4 => return Err(Error::Pass),
        _ => false,
    };
    if is_error
        && let Ok((src, dst, quoted)) = network(ctx, ip.l4 + ICMP_HEADER, ip.v4)
        && has_ports(quoted.protocol)
        && !matches!(quoted.fragment, Fragment::Later(_))
        && let Ok([sport, dport]) = read::<[[u8; 2]; 2]>(ctx, quoted.l4)
    {
        *tuple = Tuple::new(src, dst, sport, dport, quoted.protocol).reverse();
        return Ok(Kind::IcmpError { quoted });
    }
    Ok(Kind::Other)
}

//! Rewriting a packet, every checksum included.

use vetch_ebpf_common::{Address, Difference, Protocol, Tuple};

use crate::{
    access::{Context, Short, read, write},
    parse::{Header, ICMP_IDENTIFIER, Kind, Packet},
};

const IPV4_CHECKSUM: u32 = 10;
const IPV4_ADDRESSES: u32 = 12;
const IPV6_ADDRESSES: u32 = 8;
const TCP_CHECKSUM: u32 = 16;
const UDP_CHECKSUM: u32 = 6;
const ICMP_CHECKSUM: u32 = 2;

/// Makes the packet one of `to`, which the flow of its tuple says.
#[inline(never)]
pub fn rewrite(ctx: &impl Context, packet: &Packet, to: &Tuple) -> Result<(), Short> {
    match packet.kind {
        Kind::Transport => {
            let hosts = Difference::of_hosts(&packet.tuple, to);
            network(ctx, &packet.ip, to.src, to.dst, hosts)?;
            transport(ctx, &packet.ip, &packet.tuple, to, hosts)
        }
        Kind::LaterFragment => {
            let hosts = Difference::of_hosts(&packet.tuple, to);
            network(ctx, &packet.ip, to.src, to.dst, hosts)
        }
        Kind::Echo | Kind::EchoAnswer => {
            let hosts = Difference::of_hosts(&packet.tuple, to);
            network(ctx, &packet.ip, to.src, to.dst, hosts)?;
            echo(ctx, &packet.ip, &packet.tuple, to, hosts)
        }
        Kind::IcmpError => icmp(ctx, packet, to),
        Kind::Other | Kind::TunnelError => Ok(()),
    }
}

/// Addresses, and IPv4's checksum of them. Together they add nothing to the
/// sum of the whole packet; what IPv6's addresses add, the transport's
/// checksum takes away.
#[inline(always)]
fn network(
    ctx: &impl Context,
    ip: &Header,
    src: Address,
    dst: Address,
    hosts: Difference,
) -> Result<(), Short> {
    let ([a, b, c, d], [e, f, g, h]) = (src.bits(), dst.bits());
    if !ip.v4 {
        return write(ctx, ip.l3 + IPV6_ADDRESSES, &[a, b, c, d, e, f, g, h]);
    }
    ctx.correct(ip.l3 + IPV4_CHECKSUM, hosts)?;
    write(ctx, ip.l3 + IPV4_ADDRESSES, &[d, h])
}

/// Ports, and the checksum that covers them and the addresses.
#[inline(always)]
fn transport(
    ctx: &impl Context,
    ip: &Header,
    from: &Tuple,
    to: &Tuple,
    hosts: Difference,
) -> Result<(), Short> {
    // A datagram whose checksum is 0 has none and goes on so.
    let (at, zero_is_none) = match Protocol::try_from(ip.protocol) {
        Ok(Protocol::Tcp) => (ip.l4 + TCP_CHECKSUM, false),
        Ok(Protocol::Udp) => (ip.l4 + UDP_CHECKSUM, true),
        // SCTP's covers no address, and its ports are never changed.
        _ => return Ok(()),
    };
    ctx.correct_hosts(at, hosts, ip.v4, zero_is_none)?;
    if from.ports() != to.ports() {
        ctx.correct_transport(at, Difference::of_ports(from, to), zero_is_none)?;
        write(ctx, ip.l4, &to.ports())?;
    }
    Ok(())
}

/// The identifier, and the checksum: of ICMPv6 it covers the addresses too.
#[inline(always)]
fn echo(
    ctx: &impl Context,
    ip: &Header,
    from: &Tuple,
    to: &Tuple,
    hosts: Difference,
) -> Result<(), Short> {
    let at = ip.l4 + ICMP_CHECKSUM;
    if !ip.v4 {
        ctx.correct_hosts(at, hosts, ip.v4, false)?;
    }
    if from.ports() != to.ports() {
        ctx.correct(at, Difference::of_ports(from, to))?;
        write(ctx, ip.l4 + ICMP_IDENTIFIER, &identifier(to))?;
    }
    Ok(())
}

/// Of the two ports of an echo one is its identifier, and the other is none.
#[inline(always)]
fn identifier(tuple: &Tuple) -> u16 {
    u16::from_ne_bytes(tuple.sport) | u16::from_ne_bytes(tuple.dport)
}

/// An ICMP error: the packet it quotes becomes the one that its receiver sent,
/// and the error comes from and goes to whom that packet knows.
#[inline(always)]
fn icmp(ctx: &impl Context, packet: &Packet, to: &Tuple) -> Result<(), Short> {
    let quoted = &packet.quoted;
    let (was, is) = (packet.tuple.reverse(), to.reverse());
    let hosts = Difference::of_hosts(&was, &is);
    let ports = Difference::of_ports(&was, &is);
    // Of the host that the quoted packet was for, or of a router on the way.
    let src = if packet.src == packet.tuple.src {
        to.src
    } else {
        packet.src
    };
    // What the change of the quoted packet adds to the sum over it.
    let mut inside = if quoted.v4 {
        // Its header's checksum makes up for the addresses.
        Difference::NONE
    } else {
        hosts
    };
    network(ctx, quoted, is.src, is.dst, hosts)?;
    inside = inside.and(ports);
    let covered = match Protocol::try_from(quoted.protocol) {
        Ok(_) => {
            write(ctx, quoted.l4, &is.ports())?;
            hosts.and(ports)
        }
        // An echo's.
        Err(_) => {
            write(ctx, quoted.l4 + ICMP_IDENTIFIER, &identifier(&is))?;
            if quoted.v4 { ports } else { hosts.and(ports) }
        }
    };
    if quoted_checksum(ctx, quoted, covered) {
        inside = inside.and(covered.negated());
    }
    let outer =
        Difference::of_addresses(packet.src, src).and(Difference::of_addresses(packet.dst, to.dst));
    network(ctx, &packet.ip, src, to.dst, outer)?;
    let at = packet.ip.l4 + ICMP_CHECKSUM;
    ctx.correct(at, inside)?;
    if !packet.ip.v4 {
        ctx.correct_hosts(at, outer, packet.ip.v4, false)?;
    }
    Ok(())
}

/// The quoted transport's checksum, if that much was quoted and there is one.
#[inline(always)]
fn quoted_checksum(ctx: &impl Context, quoted: &Header, change: Difference) -> bool {
    let at = quoted.l4
        + match Protocol::try_from(quoted.protocol) {
            Ok(Protocol::Tcp) => TCP_CHECKSUM,
            Ok(Protocol::Udp) => UDP_CHECKSUM,
            Ok(Protocol::Sctp) => return false,
            Err(_) => ICMP_CHECKSUM,
        };
    match read::<u16>(ctx, at) {
        Ok(0) if quoted.protocol == Protocol::Udp as u8 => false,
        Ok(_) => ctx.correct(at, change).is_ok(),
        Err(_) => false,
    }
}

/// IPv4's header checksum for one hop less.
#[inline(always)]
pub fn correct_ttl(ctx: &impl Context, ip: &Header, ttl: u8) -> Result<(), Short> {
    let word = |ttl| u32::from_ne_bytes([ttl, 0, 0, 0]);
    let difference = Difference::of_words(word(ttl), word(ttl - 1));
    ctx.correct(ip.l3 + IPV4_CHECKSUM, difference)
}

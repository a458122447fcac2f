//! Out by a known link, without the node's stack.
//!
//! Which link leads to an address is the stack's to say: the helper that would
//! ask the routes (`bpf_fib_lookup`) is for programs under the GPL.

use aya_ebpf::{helpers::bpf_redirect_neigh, programs::TcContext};
use vetch_ebpf_common::Protocol;

use crate::{
    access::{Context, Short, gso_size, read, write},
    maps::UPLINKS,
    nat,
    parse::{Header, Packet},
    verdict::{Error, PASS},
};

const UDP_HEADER: u32 = 8;

/// Whether the packet would reach its next hop, before anything is changed in
/// it. To one that would not, too long or too old, the stack has something to
/// say, and should say it of the packet that its sender knows.
#[inline(always)]
pub fn would_go(ctx: &TcContext, packet: &Packet, ifindex: u32) -> bool {
    fits(ctx, packet, ifindex, 0) && hops(ctx, &packet.ip).is_ok_and(|hops| hops > 1)
}

/// Whether the packet is short enough for the link, with so many bytes more
/// before it.
#[inline(always)]
pub fn fits(ctx: &TcContext, packet: &Packet, ifindex: u32, more: u32) -> bool {
    // SAFETY: 8 bytes that the daemon replaces whole; a removed element is
    // freed after this program.
    match unsafe { UPLINKS.get(ifindex) } {
        Some(uplink) => uplink.fits(length(ctx, packet, more)),
        None => true,
    }
}

/// Of the packet, or of those that it is still to be cut into. TCP's segments
/// make room for what comes before them.
#[inline(always)]
fn length(ctx: &TcContext, packet: &Packet, more: u32) -> u32 {
    const DATA_OFFSET: u32 = 12;
    let gso_size = gso_size(ctx);
    if gso_size == 0 {
        return ctx.len() - packet.ip.l3 + more;
    }
    let more = if packet.ip.protocol == Protocol::Tcp as u8 {
        0
    } else {
        more
    };
    let header = match Protocol::try_from(packet.ip.protocol) {
        Ok(Protocol::Tcp) => {
            read::<u8>(ctx, packet.ip.l4 + DATA_OFFSET).map_or(0, |words| u32::from(words >> 4) * 4)
        }
        _ => UDP_HEADER,
    };
    packet.ip.l4 - packet.ip.l3 + header + gso_size + more
}

/// Whether a router may send the packet on in fragments: IPv6 knows no such thing (RFC
/// 8200, 5).
#[inline(always)]
pub fn may_be_cut(ctx: &impl Context, ip: &Header) -> bool {
    const FLAGS: u32 = 6;
    const DONT_FRAGMENT: u8 = 0x40;
    ip.v4 && read::<u8>(ctx, ip.l3 + FLAGS).is_ok_and(|flags| flags & DONT_FRAGMENT == 0)
}

/// The longest packet that the link takes; 0 where that is not known.
#[inline(always)]
pub fn mtu(ifindex: u32) -> u32 {
    // SAFETY: as in `fits`.
    unsafe { UPLINKS.get(ifindex) }.map_or(0, |uplink| u32::from(uplink.mtu))
}

/// To the neighbour that the link's routes name (5.10).
#[inline(always)]
pub fn by_link(ctx: &TcContext, ip: &Header, ifindex: u32) -> Result<i32, Error> {
    if !older(ctx, ip)? {
        return Ok(PASS);
    }
    // SAFETY: the helper takes any number; without parameters it looks the
    // destination up itself.
    let verdict = unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
    Ok(verdict as i32)
}

/// One hop; false if there is none left.
#[inline(always)]
pub fn older(ctx: &impl Context, ip: &Header) -> Result<bool, Short> {
    let hops = hops(ctx, ip)?;
    if hops <= 1 {
        return Ok(false);
    }
    if ip.v4 {
        nat::correct_ttl(ctx, ip, hops)?;
    }
    write(ctx, hops_at(ip), &[hops - 1])?;
    Ok(true)
}

#[inline(always)]
pub fn hops(ctx: &impl Context, ip: &Header) -> Result<u8, Short> {
    read(ctx, hops_at(ip))
}

#[inline(always)]
fn hops_at(ip: &Header) -> u32 {
    const TTL: u32 = 8;
    const HOP_LIMIT: u32 = 7;
    ip.l3 + if ip.v4 { TTL } else { HOP_LIMIT }
}

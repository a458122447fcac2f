//! What comes by an uplink, before the stack has it: XDP (native mode: 4.8; in
//! pieces: 5.18).
//!
//! A shorter way for packets of clients outside to backends on other nodes, and
//! for the answers: they leave by the link they came by, and the stack never
//! sees them. Flows are the ones of `from_net`, followed and made by the same
//! code, so that each packet of a conversation may take either way. Whatever is
//! not the common case goes on to `from_net` unchanged, and so does everything
//! that is to be refused, dropped or told.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::xdp,
    programs::XdpContext,
};
use vetch_ebpf_common::{Checksum, Direction, EventKind, Mac, Protocol, Reason, Site, Uplink};

use crate::{
    access::{Context as _, Short, ifindex, read, read_at, write},
    count,
    dial::dial,
    event, flows,
    forward::{self, Hook, route},
    maps::UPLINKS,
    nat, next_hop, node,
    parse::{ETH_HEADER, Fragment, Kind, Packet, parse},
    verdict::Error,
    work::{Work, work},
};

#[xdp(frags)]
pub fn from_wire(ctx: XdpContext) -> u32 {
    handle(&ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn handle(ctx: &XdpContext) -> Result<u32, Error> {
    // SAFETY: 8 bytes that the daemon replaces whole; a removed element is
    // freed after this program.
    let uplink = *unsafe { UPLINKS.get(ifindex(ctx)) }.ok_or(Error::Pass)?;
    if read_at::<0, Mac>(ctx)? != uplink.mac {
        return Ok(XDP_PASS);
    }
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    if !is_common(&work.packet)
        || forward::pod(&work.packet.src).is_some()
        || is_partial(ctx, &work.packet)?
    {
        return Ok(XDP_PASS);
    }
    if !flows::follow(ctx, work) {
        if forward::pod(&work.packet.dst).is_some() {
            return Ok(XDP_PASS);
        }
        dial(ctx, work, Hook::Net)?;
    }
    let Some(to) = next(ctx, work, &uplink)? else {
        return Ok(XDP_PASS);
    };
    flows::count(ctx, work);
    send(ctx, work, [to, uplink.mac]).or_else(|Short| {
        // Half of it is rewritten.
        count::reason(Reason::Malformed);
        event::packet(
            ifindex(ctx),
            Site::FromWire,
            EventKind::Drop,
            Reason::Malformed,
        );
        Ok(XDP_DROP)
    })
}

/// A whole packet with ports, without a VLAN tag. SCTP's checksum may be for
/// the device to make, and nothing here would tell it so.
#[inline(always)]
fn is_common(packet: &Packet) -> bool {
    packet.kind == Kind::Transport
        && packet.ip.l3 == ETH_HEADER
        && packet.ip.fragment == Fragment::Whole
        && packet.ip.protocol != Protocol::Sctp as u8
}

/// Whether the sender has left the checksum for the device to finish, and the
/// device was a virtual one: the field then has the sum of the pseudo header.
/// The stack knows that, a frame cannot say it. One packet of 65,536 has that
/// checksum by chance and takes the longer way.
#[inline(always)]
fn is_partial(ctx: &XdpContext, packet: &Packet) -> Result<bool, Short> {
    const V4_LEN: u32 = ETH_HEADER + 2;
    const V6_LEN: u32 = ETH_HEADER + 4;
    const V6_HEADER: u32 = 40;
    const TCP_CHECKSUM: u32 = 16;
    const UDP_CHECKSUM: u32 = 6;
    let end = if packet.ip.v4 {
        u16::from_be(read_at::<V4_LEN, _>(ctx)?)
    } else {
        u16::from_be(read_at::<V6_LEN, _>(ctx)?).wrapping_add(V6_HEADER as u16)
    };
    let len = end.wrapping_sub((packet.ip.l4 - packet.ip.l3) as u16);
    let at = if packet.ip.protocol == Protocol::Tcp as u8 {
        TCP_CHECKSUM
    } else {
        UDP_CHECKSUM
    };
    let sum = Checksum::default()
        .pseudo_header(packet.src, packet.dst, packet.ip.protocol, len)
        .fold();
    Ok(read::<u16>(ctx, packet.ip.l4 + at)? == sum)
}

/// The link address that the packet goes to, if it goes out by the link it came
/// by, and arrives: what `from_net` and the routes would have it do.
#[inline(always)]
fn next(ctx: &XdpContext, work: &Work, uplink: &Uplink) -> Result<Option<Mac>, Short> {
    let Work { packet, flow, .. } = work;
    let link = ifindex(ctx);
    let leaves = match flow.direction() {
        // If there are more ways to other nodes, the stack and its filters are on
        // them all.
        Direction::Original => flow.to.src != packet.src && node::link() == link,
        Direction::Reply => true,
    };
    // Of a client outside, who is reached by this link.
    if flow.link != link || !leaves {
        return Ok(None);
    }
    if !uplink.fits(ctx.len() - packet.ip.l3) || route::hops(ctx, &packet.ip)? <= 1 {
        return Ok(None);
    }
    Ok(next_hop::get(&flow.to.dst, link))
}

#[inline(always)]
fn send(ctx: &XdpContext, work: &Work, macs: [Mac; 2]) -> Result<u32, Short> {
    nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    route::older(ctx, &work.packet.ip)?;
    write(ctx, 0, &macs)?;
    Ok(XDP_TX)
}

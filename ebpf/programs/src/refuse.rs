//! What a closed port answers, made of the packet that came to it.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT},
    programs::TcContext,
};
use vetch_ebpf_common::{Address, Protocol, Reason, answerable};

use crate::{
    forward::route,
    parse::{ETH_HEADER, Fragment, Packet},
    peers,
    reset::reset,
    tunnel,
    turn::{self, NETWORK},
    unreachable::{Matter, unreachable},
    work::{Work, work},
};

/// Turns the packet in hand into a refusal, from the address it was sent to,
/// and sends it back out of the interface it came in by. What must not be
/// answered is dropped. The caller has parsed it and counted why.
#[inline(always)]
pub fn refuse(ctx: &TcContext, reason: Reason) -> i32 {
    refuse_skb(ctx.skb.skb, reason == Reason::TooLong)
}

/// In a frame of its own: the stack is short.
#[inline(never)]
fn refuse_skb(skb: *mut __sk_buff, too_long: bool) -> i32 {
    let ctx = TcContext::new(skb);
    try_refuse(&ctx, too_long).unwrap_or(TC_ACT_SHOT as i32)
}

/// There is no answer: none is due, or the packet is not what it says.
pub struct Silent;

/// A packet that is refused.
pub struct Refused {
    pub v4: bool,
    pub source: Address,
    pub destination: Address,
    /// Offset of its TCP, UDP or SCTP header.
    pub transport: u32,
    /// Offset of the first byte behind it; a frame may go on.
    pub end: u32,
}

#[inline(always)]
fn try_refuse(ctx: &TcContext, too_long: bool) -> Result<i32, Silent> {
    let Work { packet, flow, .. } = work().map_err(|_| Silent)?;
    let Packet { src, dst, ip, .. } = packet;
    // A tag that is still in the frame is one within another; the kernel
    // changes the room for headers only right behind Ethernet's.
    if ip.l3 != ETH_HEADER {
        return Err(Silent);
    }
    let refused = Refused {
        v4: ip.v4,
        source: *src,
        destination: *dst,
        transport: ip.l4,
        end: NETWORK + turn::ip_len(ctx, ip.v4)?,
    };
    if ip.fragment == Fragment::Later
        || refused.end < refused.transport
        || refused.end > ctx.len()
        || !answerable(*src, *dst)
    {
        return Err(Silent);
    }
    let protocol = Protocol::try_from(ip.protocol).map_err(|_| Silent)?;
    let matter = if too_long {
        let mtu = match peers::tunnel_to(&flow.to.dst) {
            0 => tunnel::mtu(ctx, refused.v4),
            device => route::mtu(device),
        };
        Matter::too_long(refused.v4, mtu)
    } else if protocol == Protocol::Tcp {
        return reset(ctx, &refused);
    } else {
        Matter::port(refused.v4)
    };
    unreachable(ctx, &refused, protocol, matter)
}

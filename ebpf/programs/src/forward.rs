//! Where a packet goes next: straight into a pod, or on to the node's stack.

use aya_ebpf::{helpers::bpf_redirect_peer, programs::TcContext};
use vetch_ebpf_common::{Address, Pod};

use crate::{
    access::{ifindex, plain, write},
    maps::PODS,
    parse::{ETH_HEADER, Packet},
    verdict::{Error, PASS},
};

/// Which hook asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum From {
    Pod,
    Net,
}

#[inline(always)]
pub fn pod(address: Address) -> Option<&'static Pod> {
    // SAFETY: the map is not preallocated: a removed element is freed only
    // after this program has ended (RCU). The daemon replaces elements whole.
    unsafe { PODS.get(address) }
}

/// To a pod of this node. `packet` is as it came: a pod that sends with another's
/// address, and a packet from the network with a pod's,
/// are left to the stack, whose reverse path filter judges them.
#[inline(always)]
pub fn to_pod(ctx: &TcContext, from: From, packet: &Packet, to: &Pod) -> Result<i32, Error> {
    if to.flags & Pod::BY_STACK != 0 || packet.ip.l3 != ETH_HEADER || !plain(ctx) {
        return Ok(PASS);
    }
    let direct = match (from, pod(packet.tuple.src)) {
        (From::Pod, Some(source)) => {
            source.ifindex == ifindex(ctx) && source.flags & Pod::BY_STACK == 0
        }
        (From::Net, None) => true,
        _ => false,
    };
    if !direct {
        return Ok(PASS);
    }
    write(
        ctx,
        0,
        &Macs {
            to: to.mac,
            from: to.gateway_mac,
        },
    )?;
    // SAFETY: the helper takes any number (5.10).
    Ok(unsafe { bpf_redirect_peer(to.ifindex, 0) } as i32)
}

/// The first bytes of a frame.
#[repr(C)]
struct Macs {
    to: [u8; 6],
    from: [u8; 6],
}

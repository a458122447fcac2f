//! Where a packet goes next: straight into a pod, out by another link, or on
//! to the node's stack.

pub mod route;

use aya_ebpf::{
    helpers::{bpf_redirect, bpf_redirect_peer},
    programs::TcContext,
};
use vetch_ebpf_common::{Address, Direction, From, Pod, Site};

use crate::{
    access::{Context, has_tag, ifindex, write},
    maps::PODS,
    parse::{ETH_HEADER, Packet},
    peers,
    verdict::{Error, PASS},
    work::Work,
};

/// Where a program is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// The ingress of a pod's link.
    Pod,
    /// The ingress of an uplink.
    Net,
    /// The ingress of the tunnel's device, for what other nodes send.
    Tunnel,
    /// The egress of an uplink, for packets of the node itself.
    Node,
}

impl Hook {
    #[inline(always)]
    pub const fn from(self) -> From {
        match self {
            Self::Pod | Self::Node => From::Inside,
            Self::Net | Self::Tunnel => From::Outside,
        }
    }

    #[inline(always)]
    pub const fn site(self) -> Site {
        match self {
            Self::Pod => Site::FromPod,
            Self::Net | Self::Tunnel => Site::FromNet,
            Self::Node => Site::ToNet,
        }
    }
}

#[inline(always)]
pub fn pod(address: &Address) -> Option<&'static Pod> {
    // SAFETY: the map is not preallocated: a removed element is freed only
    // after this program has ended (RCU). The daemon replaces elements whole.
    unsafe { PODS.get(address) }
}

/// Whether a packet with this source came from the pod that has it.
#[inline(always)]
pub fn is_behind(ctx: &impl Context, source: &Address) -> bool {
    pod(source).is_some_and(|pod| pod.ifindex == ifindex(ctx))
}

/// Into a pod of this node. `packet` is as it came.
#[inline(always)]
pub fn to_pod(ctx: &TcContext, hook: Hook, packet: &Packet, to: &Pod) -> Result<i32, Error> {
    if to.flags & Pod::BY_STACK != 0 || !may_skip_stack(ctx, hook, packet) {
        return Ok(PASS);
    }
    match hook {
        Hook::Pod | Hook::Net | Hook::Tunnel if to.flags & Pod::SHAPED == 0 => {
            into(ctx, to, Way::Peer)
        }
        _ => into(ctx, to, Way::Queue),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// 5.10; skips the link's egress.
    Peer,
    /// Through the link's egress, as what the stack sends.
    Queue,
}

#[inline(always)]
fn into(ctx: &TcContext, to: &Pod, way: Way) -> Result<i32, Error> {
    let macs = Macs {
        to: to.mac,
        from: to.gateway_mac,
    };
    write(ctx, 0, &macs)?;
    // SAFETY: the helpers take any number.
    let verdict = unsafe {
        match way {
            Way::Peer => bpf_redirect_peer(to.ifindex, 0),
            Way::Queue => bpf_redirect(to.ifindex, 0),
        }
    };
    Ok(verdict as i32)
}

/// To a pod of another node, past the stack, as nobody translates it. What the stack
/// would have to say of it, it gets: what is too long or too old, or has options.
#[inline(never)]
pub fn to_peer(ctx: &TcContext, packet: &Packet) -> Result<i32, Error> {
    let link = peers::link_of(&packet.dst);
    if link == 0
        || packet.ip.has_options()
        || !may_skip_stack(ctx, Hook::Pod, packet)
        || !route::would_go(ctx, packet, link)
    {
        return Ok(PASS);
    }
    route::by_link(ctx, &packet.ip, link)
}

/// After a rewrite.
#[inline(always)]
pub fn translated(ctx: &TcContext, hook: Hook, work: &Work) -> Result<i32, Error> {
    let Work { packet, flow, .. } = work;
    let is_answer = flow.direction() == Direction::Reply;
    if let Some(pod) = pod(&flow.to.dst) {
        let verdict = to_pod(ctx, hook, packet, pod)?;
        // Its source is the service's address now, which the stack would not
        // take from a pod's link: the reverse path filter is strict there. A
        // host's outside is the host's own.
        if verdict == PASS && is_answer && !flow.is_outside() && is_genuine(ctx, hook, packet) {
            return into(ctx, pod, Way::Queue);
        }
        return Ok(verdict);
    }
    let link = match hook {
        // The stack has routed already; SCTP's backends are behind the same
        // uplink as the service's address seemed to be.
        Hook::Node => ifindex(ctx),
        // Kernels before October 2025 lose, and never free, what the device says of the
        // tunnel with each packet that is redirected to a neighbour. At this device the
        // stack takes them.
        // https://lore.kernel.org/netdev/20251003073418.291171-1-daniel@iogearbox.net/
        Hook::Tunnel => 0,
        // Answers leave where the question came. The stack would refuse those
        // that have an address of the node's as their source.
        _ if is_answer => flow.link,
        // From the network to another node. The stack would take it only from
        // uplinks with `accept_local` and without a strict reverse path filter,
        // because its source is the node's address now.
        Hook::Net if flow.to.src != packet.src => peers::link_to(&flow.to.dst),
        // To a process of the node; or from a pod to a backend elsewhere, which
        // is the stack's to route, and to masquerade if it is outside of the
        // cluster.
        _ => 0,
    };
    let may_go = if is_answer {
        is_genuine(ctx, hook, packet)
    } else {
        may_skip_stack(ctx, hook, packet)
    };
    if link == 0 || !may_go {
        return Ok(PASS);
    }
    route::by_link(ctx, &packet.ip, link)
}

/// Whether the stack should have the packet of this flow untranslated, to tell
/// the pod that sent it why it cannot go on.
#[inline(always)]
pub fn is_stuck(ctx: &TcContext, work: &Work) -> bool {
    let Work { packet, flow, .. } = work;
    flow.link != 0
        && flow.direction() == Direction::Reply
        && !route::would_go(ctx, packet, flow.link)
}

/// Whether the packet of a client outside is longer than the tunnel to its backend's
/// node lets pass, and must not be cut. Its sender is told before it is rewritten.
#[inline(never)]
pub fn is_too_long(ctx: &TcContext, work: &Work) -> bool {
    /// With a link header: what every link takes, and most packets are shorter (RFC 791,
    /// 3.1).
    const SHORT: u32 = ETH_HEADER + 576;
    let Work { packet, flow, .. } = work;
    if ctx.len() <= SHORT || flow.direction() == Direction::Reply || flow.to.src == packet.src {
        return false;
    }
    match peers::tunnel_to(&flow.to.dst) {
        0 => false,
        device => !route::fits(ctx, packet, device, 0) && !route::may_be_cut(ctx, &packet.ip),
    }
}

/// Whether its sender wants no part of the stack.
#[inline(always)]
fn may_skip_stack(ctx: &TcContext, hook: Hook, packet: &Packet) -> bool {
    is_sent(ctx, hook, packet, Pod::BY_STACK)
}

/// A pod that sends with another's address, and a packet from the network with
/// a pod's, are left to the stack, whose reverse path filter judges them.
#[inline(always)]
fn is_genuine(ctx: &TcContext, hook: Hook, packet: &Packet) -> bool {
    is_sent(ctx, hook, packet, 0)
}

/// By whom its source says, and not by a pod with any of these flags. One lookup:
/// every packet from pod to pod pays for it.
#[inline(always)]
fn is_sent(ctx: &TcContext, hook: Hook, packet: &Packet, unwanted: u32) -> bool {
    // With a tag it is no frame for a pod or another link.
    if packet.ip.l3 != ETH_HEADER || has_tag(ctx) {
        return false;
    }
    let source = pod(&packet.src);
    match hook {
        Hook::Pod => {
            source.is_some_and(|pod| pod.ifindex == ifindex(ctx) && pod.flags & unwanted == 0)
        }
        Hook::Net | Hook::Tunnel | Hook::Node => source.is_none(),
    }
}

/// The first bytes of a frame.
#[repr(C)]
struct Macs {
    to: [u8; 6],
    from: [u8; 6],
}

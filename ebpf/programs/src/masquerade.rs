//! Out of the cluster and back: what a pod of this node sends to a host that is
//! not the cluster's leaves with the uplink's address, on a port of the same
//! table as services' flows, and the answers find the pod by that.
//!
//! At an uplink's egress the stack has routed, so that the address is one of the
//! link that the packet leaves by. Answers may come by any other.
//!
//! Only what begins a conversation makes a flow, so that a pod's answers to a
//! host that has dialled the pod itself go as they are. TCP, SCTP and an echo
//! say of themselves whether they begin one; of datagrams that is remembered
//! when they come ([`remember_caller`]).

use aya_ebpf::{maps::lpm_trie::Key, programs::TcContext};
use vetch_ebpf_common::{Address, Direction, Event, Flow, Protocol, Site, State};

use crate::{
    access::{Short, has_tag, ifindex, read, read_at},
    begin, flows, forward,
    maps::{NON_MASQUERADE, SOURCES},
    nat, node,
    parse::{Kind, Packet, parse},
    ports,
    verdict::{Error, PASS},
    work::{Work, work},
};

/// A packet that leaves by an uplink, and came by another link.
#[inline(always)]
pub fn leaves(ctx: &TcContext, came_by: u32) -> Result<i32, Error> {
    if !node::masquerades() || !is_concerned(ctx, came_by)? {
        return Ok(PASS);
    }
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    if !flows::follow(ctx, work) {
        claim(ctx, work)?;
    }
    if work.flow.to != work.packet.tuple {
        nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    }
    Ok(PASS)
}

/// Whether a pod that is behind the other link sends it to nobody of the
/// cluster. A tag is in no packet that the stack has made.
#[inline(always)]
fn is_concerned(ctx: &TcContext, came_by: u32) -> Result<bool, Short> {
    const ETHERTYPE: u32 = 12;
    const V4: u32 = 14 + 12;
    const V6: u32 = 14 + 8;
    if has_tag(ctx) {
        return Ok(false);
    }
    let (src, dst) = match read_at::<ETHERTYPE, [u8; 2]>(ctx)? {
        [0x08, 0x00] => {
            let [src, dst]: [u32; 2] = read_at::<V4, _>(ctx)?;
            (Address::v4_bits(src), Address::v4_bits(dst))
        }
        [0x86, 0xdd] => {
            let [src, dst]: [[u32; 4]; 2] = read_at::<V6, _>(ctx)?;
            (Address::v6_bits(src), Address::v6_bits(dst))
        }
        _ => return Ok(false),
    };
    let is_pods = forward::pod(&src).is_some_and(|pod| pod.ifindex == came_by);
    Ok(is_pods && !keeps_source(&dst))
}

/// Whether pods reach the address with their own.
#[inline(always)]
fn keeps_source(address: &Address) -> bool {
    let [a, b, c, d] = address.bits();
    NON_MASQUERADE.get(Key::new(128, [a, b, c, d])).is_some()
}

#[inline(always)]
fn claim(ctx: &TcContext, work: &Work) -> Result<(), Error> {
    if !begins(ctx, &work.packet)? {
        return Err(Error::Pass);
    }
    match masquerade(ifindex(ctx)) {
        CLAIMED => {
            begin::flow(ctx, Site::ToNet);
            Ok(())
        }
        NO_PORT => Err(Error::SourcePorts),
        PORT_STAYS => Err(Error::Unsupported),
        NO_ROOM => Err(Error::FlowTable),
        _ => Err(Error::Pass),
    }
}

/// Whether the packet is the first of a conversation. What none of these says
/// goes as it is: there are no ports by which its answers could be told.
#[inline(always)]
fn begins(ctx: &TcContext, packet: &Packet) -> Result<bool, Error> {
    const CHUNK: u32 = 12;
    const INIT: u8 = 1;
    let protocol = Protocol::try_from(packet.tuple.protocol);
    Ok(match packet.kind {
        Kind::Transport => match protocol {
            Ok(Protocol::Tcp) => packet.tcp_flags(ctx) & (State::SYN | State::ACK) == State::SYN,
            Ok(Protocol::Udp) => true,
            Ok(Protocol::Sctp) => read::<u8>(ctx, packet.ip.l4 + CHUNK)? == INIT,
            Err(_) => false,
        },
        Kind::Echo => true,
        // Where it belongs was not said.
        Kind::LaterFragment if packet.tuple.ports() == 0 && has_ports(packet) => {
            return Err(Error::Fragment);
        }
        _ => false,
    })
}

#[inline(always)]
fn has_ports(packet: &Packet) -> bool {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    matches!(packet.ip.protocol, ICMP | ICMPV6) || Protocol::try_from(packet.ip.protocol).is_ok()
}

/// What [`masquerade`] answers.
const CLAIMED: u32 = 0;
const AS_IT_IS: u32 = 1;
const NO_PORT: u32 = 2;
const PORT_STAYS: u32 = 3;
const NO_ROOM: u32 = 4;

/// The flow of the packet in hand, by this uplink. A global function, as
/// `balance` is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn masquerade(link: u32) -> u32 {
    let Ok(work) = work() else {
        return AS_IT_IS;
    };
    let Some(source) = source(link, work.packet.ip.v4) else {
        return AS_IT_IS;
    };
    let mut to = work.packet.tuple;
    to.src = source;
    work.flow = Flow::new(to, Event::NO_SERVICE, 0, 0, flows::now());
    work.flow.cross_border();
    match ports::claim(work) {
        Ok(()) => CLAIMED,
        Err(Error::SourcePorts) => NO_PORT,
        Err(Error::Unsupported) => PORT_STAYS,
        Err(_) => NO_ROOM,
    }
}

/// The uplink's address, or the node's. A pod of a node that has none of the
/// family keeps its own.
#[inline(always)]
fn source(link: u32, v4: bool) -> Option<Address> {
    // SAFETY: 32 bytes that the daemon replaces whole; a removed element is
    // freed after this program (RCU).
    let own = unsafe { SOURCES.get(link) }.and_then(|sources| sources.of(v4));
    let node = node::address(v4);
    own.or((node != node.any()).then_some(node))
}

/// Whether the flow of a packet from an uplink is one in which nothing is
/// translated.
#[inline(always)]
pub fn is_as_it_is(flow: &Flow) -> bool {
    flow.is_outside() && flow.direction() == Direction::Original
}

/// A packet from an uplink for a pod, of no flow.
#[inline(always)]
pub fn is_called(packet: &Packet) {
    if node::masquerades()
        && packet.kind == Kind::Transport
        && packet.tuple.protocol == Protocol::Udp as u8
    {
        remember_caller(0);
    }
}

/// A datagram of a host outside to a pod: what the pod answers is nothing it
/// has begun. As [`masquerade`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn remember_caller(_unused: u32) -> u32 {
    let Ok(work) = work() else {
        return 0;
    };
    if keeps_source(&work.packet.src) {
        return 0;
    }
    let tuple = work.packet.tuple;
    work.flow = Flow::new(tuple, Event::NO_SERVICE, 0, 0, flows::now());
    work.flow.cross_border();
    ports::claim_as_it_is(work);
    1
}

/// An answer from outside, to a pod: what it is rewritten to is what a service
/// has made of what the pod had dialled, if its backend is out there.
#[inline(always)]
pub fn is_answered(ctx: &TcContext, work: &Work) {
    if work.flow.is_outside() && work.flow.direction() == Direction::Reply {
        follow_answer(work.packet.tcp_flags(ctx).into());
    }
}

/// As [`masquerade`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn follow_answer(tcp_flags: u32) -> u32 {
    match work() {
        Ok(work) => flows::follow_on(work, tcp_flags as u8).into(),
        Err(_) => 0,
    }
}

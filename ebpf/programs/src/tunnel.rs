//! Direct server return: what a client outside sends to a pod of another node
//! goes there as it came, behind an outer header, and that node answers the
//! client itself.
//!
//! [`wrap`] is the way of the node that the client has dialled, [`open`] that of
//! the pod's. The latter is open whatever the node itself does, but for
//! nodes of the cluster only.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_FIXED_GSO,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::bpf_redirect_neigh,
    programs::TcContext,
};
use vetch_ebpf_common::{
    Address, Direction, Endpoint, Event, Flow, IpHeader, Protocol, Tuple, addresses,
    tunnel::{self, Head},
};

use crate::{
    access::{gso_size, has_tag, ifindex, read},
    balance::generation,
    find, flows,
    forward::{self, route},
    maps::UPLINKS,
    node,
    parse::{ETH_HEADER, Fragment, Kind, Packet, parse},
    peers, turn,
    verdict::{Error, PASS},
    work::Work,
};

/// Whether a new flow of this packet goes so to its backend. Who is in the
/// cluster is answered by the way that the question came: its own node would
/// not take a stranger's packet from the network with its address as source. Between
/// nodes that share no link a router may mind one too, so what is in VXLAN stays so.
#[inline(always)]
pub fn is_wanted(packet: &Packet, backend: &Address) -> bool {
    node::returns_directly()
        && packet.ip.l3 == ETH_HEADER
        && packet.ip.protocol != Protocol::Sctp as u8
        && node::address(packet.ip.v4) != packet.src.any()
        && peers::has_pod_nearby(backend)
        && is_outside(&packet.src)
}

#[inline(always)]
fn is_outside(client: &Address) -> bool {
    find::address(*client) & (addresses::NODE | addresses::PEER) == 0
        && forward::pod(client).is_none()
        && !peers::has_pod(client)
}

/// By which link packets for other nodes leave: which of them is the stack's to
/// say where there are more, and they are all taken to be like this one.
#[inline(always)]
fn link(ctx: &TcContext) -> u32 {
    match node::link() {
        0 => ifindex(ctx),
        link => link,
    }
}

/// The longest packet that goes through; 0 where that is not known.
#[inline(always)]
pub fn mtu(ctx: &TcContext, v4: bool) -> u32 {
    // SAFETY: 8 bytes that the daemon replaces whole; a removed element is
    // freed after this program.
    let mtu = unsafe { UPLINKS.get(link(ctx)) }.map_or(0, |uplink| uplink.mtu);
    u32::from(mtu).saturating_sub(IpHeader::len(v4))
}

/// Sends the packet to its backend's node, the outer header before it. But for
/// a hop it stays as it came.
#[inline(never)]
pub fn wrap(ctx: &TcContext, work: &Work) -> Result<i32, Error> {
    let Work { packet, flow, .. } = work;
    let v4 = packet.ip.v4;
    if packet.ip.l3 != ETH_HEADER {
        return Err(Error::Tunnel);
    }
    if !route::fits(ctx, packet, link(ctx), IpHeader::len(v4)) {
        return Err(Error::TooLong);
    }
    if !route::older(ctx, &packet.ip)? {
        return Err(Error::Tunnel);
    }
    flows::count(ctx, work);
    let inner: Head = read(ctx, packet.ip.l3)?;
    let in_segments = gso_size(ctx) != 0;
    let header = tunnel::outer(
        v4,
        inner,
        node::address(v4),
        flow.to.dst,
        flow.to.dport,
        in_segments,
    );
    let mut room = u64::from(if v4 {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
    } else {
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
    });
    // TCP is cut into shorter segments. Datagrams stay what they are.
    if packet.ip.protocol != Protocol::Tcp as u8 {
        room |= u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
    }
    ctx.adjust_room(IpHeader::len(v4) as i32, BPF_ADJ_ROOM_MAC, room)
        .map_err(|_| Error::Tunnel)?;
    turn::store_header(ctx, v4, &header).map_err(|_| Error::Tunnel)?;
    if node::link() == 0 || has_tag(ctx) {
        return Ok(PASS);
    }
    // SAFETY: as in `route::by_link`.
    let verdict = unsafe { bpf_redirect_neigh(node::link(), core::ptr::null_mut(), 0, 0) };
    Ok(verdict as i32)
}

/// Takes the outer header off, if another node has put one before the packet for
/// a pod of this one. What is in hand afterwards is the client's packet. The
/// stack gets nothing of what goes wrong with that: the address that was dialled
/// is another's.
#[inline(always)]
pub fn open(ctx: &TcContext, work: &mut Work) -> Result<(), Error> {
    work.pod = NOBODY;
    if is_wrapped(&work.packet) && forward::pod(&work.packet.dst).is_some() {
        unwrap(ctx, work)?;
    }
    Ok(())
}

const NOBODY: Endpoint = Endpoint::new(Address::ANY_V6, [0; 2]);

/// Whether the packet came in a tunnel.
#[inline(always)]
pub fn is_open(work: &Work) -> bool {
    work.pod.addr() != NOBODY.addr()
}

/// Whether another node has wrapped it, as nodes do.
#[inline(always)]
fn is_wrapped(packet: &Packet) -> bool {
    let ip = &packet.ip;
    ip.protocol == tunnel::protocol(ip.v4)
        && ip.l3 == ETH_HEADER
        && ip.l4 == ETH_HEADER + IpHeader::len(ip.v4)
        && ip.fragment == Fragment::Whole
        && find::address(packet.src) & addresses::PEER != 0
}

#[inline(never)]
fn unwrap(ctx: &TcContext, work: &mut Work) -> Result<(), Error> {
    let v4 = work.packet.ip.v4;
    let head: Head = read(ctx, work.packet.ip.l3)?;
    // Nobody listens at port 0: there it stands for none.
    let port = tunnel::port(v4, head).unwrap_or([0; 2]);
    work.pod = Endpoint::new(work.packet.dst, port);
    ctx.adjust_room(
        -(IpHeader::len(v4) as i32),
        BPF_ADJ_ROOM_MAC,
        u64::from(BPF_F_ADJ_ROOM_FIXED_GSO),
    )
    .map_err(|_| Error::Tunnel)?;
    parse(ctx, &mut work.packet).map_err(|_| Error::Tunnel)
}

/// Whether the flow that was found leads past the pod that a tunnel's packet is
/// for. Then it is over: the node that the client has dialled says where.
#[inline(always)]
pub fn leads_elsewhere(work: &Work) -> bool {
    if !is_open(work) || leads_to_pod(work) {
        return false;
    }
    flows::forget(&work.packet.tuple, &work.flow);
    true
}

#[inline(always)]
fn leads_to_pod(work: &Work) -> bool {
    let Work {
        packet, flow, pod, ..
    } = work;
    let any_port = packet.kind != Kind::Transport || pod.port() == [0; 2];
    flow.direction() == Direction::Original
        && !flow.is_direct()
        && flow.to.dst == pod.addr()
        && (any_port || flow.to.dport == pod.port())
}

/// The flow of a tunnel's packet that has none. Whose service it is, the other
/// node has counted.
#[inline(always)]
pub fn plan(ctx: &TcContext, work: &mut Work) -> Result<(), Error> {
    let Work {
        packet, flow, pod, ..
    } = work;
    let key = &packet.tuple;
    if packet.kind != Kind::Transport
        || packet.ip.protocol == Protocol::Sctp as u8
        || pod.port() == [0; 2]
    {
        return Err(Error::Tunnel);
    }
    *flow = Flow::new(
        Tuple::new(key.source(), *pod, key.protocol),
        Event::NO_SERVICE,
        generation(Event::NO_SERVICE),
        packet.tcp_flags(ctx),
        flows::now(),
    );
    flow.link = ifindex(ctx);
    Ok(())
}

//! What routers say of packets that went into a tunnel. They say it to the node
//! that put them there, which knows nothing of them; but as a rule they quote
//! enough for the client to be told: Linux does as much as it may (RFC 1812,
//! 4.3.2.3; RFC 4443, 2.4 c).

use aya_ebpf::{
    bindings::{BPF_F_ADJ_ROOM_FIXED_GSO, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::bpf_redirect_neigh,
    programs::TcContext,
};
use vetch_ebpf_common::{IpHeader, Tuple, quoted};

use crate::{
    access::has_tag,
    flows,
    parse::{self, ETH_HEADER, Packet},
    refuse::{Refused, Silent},
    turn::{self, NETWORK},
    unreachable::{self, CHUNKS, HEADER, Matter},
    verdict::Error,
    work::Work,
};

/// Makes it an error about the packet inside, from the address that was dialled,
/// and sends it to its client. The stack has what is about none of this node's.
#[inline(never)]
pub fn tell(ctx: &TcContext, work: &mut Work) -> Result<i32, Error> {
    let Work { packet, flow, .. } = work;
    let v4 = packet.ip.v4;
    let header = IpHeader::len(v4);
    let inner = ETH_HEADER + header + HEADER + header;
    if packet.ip.l3 != ETH_HEADER || packet.quoted.l4 != inner || has_tag(ctx) {
        return Err(Error::Pass);
    }
    let key = parse::quoted_tuple(ctx, inner, v4, &mut packet.quoted).map_err(|_| Error::Pass)?;
    *flow = flows::get(&key).ok_or(Error::Pass)?;
    if !flow.is_direct() {
        return Err(Error::Pass);
    }
    rewrite(ctx, packet, &key).map_err(|_| Error::Tunnel)?;
    // SAFETY: as in `route::by_link`.
    let verdict = unsafe { bpf_redirect_neigh(flow.link, core::ptr::null_mut(), 0, 0) };
    Ok(verdict as i32)
}

/// Behind the error's own headers is the outer one, which goes.
#[inline(always)]
fn rewrite(ctx: &TcContext, packet: &Packet, key: &Tuple) -> Result<(), Silent> {
    let v4 = packet.ip.v4;
    let header = IpHeader::len(v4);
    let before = NETWORK + header + HEADER;
    let said: [u32; 2] = turn::load(ctx, packet.ip.l4)?;
    let end = NETWORK + turn::ip_len(ctx, v4)?;
    if end <= before + header || end > ctx.len() {
        return Err(Silent);
    }
    let quote = quoted(v4, end - before - header);
    turn::set_len(ctx, before + header + quote)?;
    ctx.adjust_room(
        -(header as i32),
        BPF_ADJ_ROOM_MAC,
        u64::from(BPF_F_ADJ_ROOM_FIXED_GSO),
    )
    .map_err(|_| Silent)?;
    let sum = turn::sum::<CHUNKS>(ctx, before, quote)?;
    let about = Refused {
        v4,
        source: key.src,
        destination: key.dst,
        transport: before,
        end: before + quote,
    };
    unreachable::store(ctx, &about, Matter::behind(v4, said, header), sum, quote)
}

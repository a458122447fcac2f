//! A TCP reset.

use aya_ebpf::{bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_NET, programs::TcContext};
use vetch_ebpf_common::{Checksum, IpHeader, Protocol, TcpHeader};

use crate::{
    refuse::{Refused, Silent},
    turn::{self, NETWORK},
};

const LEN: u16 = size_of::<TcpHeader>() as u16;
/// Of the checksum in the header.
const CHECKSUM: u32 = 16;

#[inline(always)]
pub fn reset(ctx: &TcContext, refused: &Refused) -> Result<i32, Silent> {
    let segment: TcpHeader = turn::load(ctx, refused.transport)?;
    let mut header =
        vetch_ebpf_common::reset(segment, refused.end.saturating_sub(refused.transport))
            .ok_or(Silent)?;
    turn::set_len(ctx, refused.transport + u32::from(LEN))?;
    let partial = turn::has_partial_checksum(ctx, refused.transport + CHECKSUM)?;
    let base = NETWORK + IpHeader::len(refused.v4);
    // The answer has no options and no extension headers.
    if refused.transport != base {
        ctx.adjust_room(-((refused.transport - base) as i32), BPF_ADJ_ROOM_NET, 0)
            .map_err(|_| Silent)?;
    }
    let pseudo = Checksum::default().pseudo_header(
        refused.destination,
        refused.source,
        Protocol::Tcp as u8,
        LEN,
    );
    let checksum = if partial {
        pseudo.fold()
    } else {
        pseudo.words(&header).finish()
    };
    header[4] = u32::from(checksum);
    turn::store(ctx, base, &header)?;
    turn::store_ip_header(ctx, refused, Protocol::Tcp as u8, LEN)?;
    turn::send_back(ctx)
}

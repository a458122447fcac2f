//! An ICMP error: the port is unreachable.

use aya_ebpf::{
    bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, helpers::bpf_ktime_get_ns, programs::TcContext,
};
use vetch_ebpf_common::{Checksum, Protocol, quoted};

use crate::{
    maps::ERROR_PACE,
    refuse::{Refused, Silent},
    turn::{self, NETWORK},
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Type and code.
const V4: [u8; 2] = [3, 3];
const V6: [u8; 2] = [1, 4];
const HEADER: u32 = 8;
/// Of the checksum in a UDP header.
const UDP_CHECKSUM: u32 = 6;
/// What an error has to quote of the transport header, where the ports are.
const LEAST: u32 = 8;
/// The longest quote, in chunks of a sum.
const CHUNKS: u32 = 1232 / 64;

#[inline(always)]
pub fn unreachable(ctx: &TcContext, refused: &Refused, protocol: Protocol) -> Result<i32, Silent> {
    if refused.end - refused.transport < LEAST || turn::to_group(ctx)? || !in_pace() {
        return Err(Silent);
    }
    let quote = quoted(refused.v4, refused.end - NETWORK);
    turn::set_len(ctx, NETWORK + quote)?;
    let quoted = checksum_of_quote(ctx, refused, protocol, quote)?;

    let before = turn::header_len(refused.v4) + HEADER;
    ctx.adjust_room(before as i32, BPF_ADJ_ROOM_MAC, 0)
        .map_err(|_| Silent)?;
    let len = (HEADER + quote) as u16;
    let ([kind, code], number, sum) = if refused.v4 {
        (V4, ICMP, quoted)
    } else {
        let sum = quoted.pseudo_header(refused.destination, refused.source, ICMPV6, len);
        (V6, ICMPV6, sum)
    };
    let head = u32::from_ne_bytes([kind, code, 0, 0]);
    let checksum = sum.word(head).finish();
    let header = [head | u32::from(checksum) << 16, 0];
    turn::store(ctx, NETWORK + before - HEADER, &header)?;
    turn::store_ip_header(ctx, refused, number, len)?;
    turn::send_back(ctx)
}

/// A UDP checksum that the sender left to the hardware is filled in at the
/// place where the datagram is then: in the quote. It makes the sum over the
/// datagram the complement of what stands in the field until then.
#[inline(always)]
fn checksum_of_quote(
    ctx: &TcContext,
    refused: &Refused,
    protocol: Protocol,
    quote: u32,
) -> Result<Checksum, Silent> {
    let mut len = quote;
    let mut rest = 0;
    // SCTP's is a CRC. Whoever leaves it out is a virtual link, which the
    // answer goes back through, and that fills in nothing.
    if protocol == Protocol::Udp {
        let field = refused.transport + UDP_CHECKSUM;
        let checksum: u16 = turn::load(ctx, field)?;
        let partial = turn::has_partial_checksum(ctx, field)?;
        turn::store(ctx, field, &checksum)?;
        if partial {
            len = refused.transport - NETWORK;
            rest = !checksum;
        }
    }
    Ok(turn::sum::<CHUNKS>(ctx, NETWORK, len)?.folded(rest))
}

#[inline(always)]
fn in_pace() -> bool {
    let Some(pace) = ERROR_PACE.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this processor's own value; the helper has no preconditions.
    unsafe { (*pace).take(bpf_ktime_get_ns()) }
}

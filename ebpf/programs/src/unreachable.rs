//! An ICMP error: the port is unreachable, or the packet too long.

use aya_ebpf::{
    bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, helpers::bpf_ktime_get_ns, programs::TcContext,
};
use vetch_ebpf_common::{Checksum, IpHeader, Protocol, quoted};

use crate::{
    maps::ERROR_PACE,
    refuse::{Refused, Silent},
    turn::{self, NETWORK},
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
pub const HEADER: u32 = 8;
/// Of the checksums in their headers.
const TCP_CHECKSUM: u32 = 16;
const UDP_CHECKSUM: u32 = 6;
/// What an error has to quote of the transport header, where the ports are.
const LEAST: u32 = 8;
/// The longest quote, in chunks of a sum.
pub const CHUNKS: u32 = 1232 / 64;

/// What is the matter: type, code, and the second word of the header.
pub struct Matter([u8; 2], u32);

impl Matter {
    /// What a router has said of a packet with a header of so many bytes before
    /// the one that was sent.
    #[inline(always)]
    pub fn behind(v4: bool, [head, rest]: [u32; 2], header: u32) -> Self {
        let [kind, code, ..] = head.to_ne_bytes();
        let too_long = if v4 {
            kind == 3 && code == 4
        } else {
            kind == 2
        };
        let rest = if too_long {
            // 0 is of a router that does not say.
            u32::from_be(rest).saturating_sub(header).to_be()
        } else {
            rest
        };
        Self([kind, code], rest)
    }

    #[inline(always)]
    pub const fn port(v4: bool) -> Self {
        Self(if v4 { [3, 3] } else { [1, 4] }, 0)
    }

    /// Where packets of at most this length would get through (RFC 1191, 4; RFC
    /// 4443, 3.2).
    #[inline(always)]
    pub const fn too_long(v4: bool, mtu: u32) -> Self {
        Self(if v4 { [3, 4] } else { [2, 0] }, mtu.to_be())
    }
}

#[inline(always)]
pub fn unreachable(
    ctx: &TcContext,
    refused: &Refused,
    protocol: Protocol,
    matter: Matter,
) -> Result<i32, Silent> {
    if refused.end - refused.transport < LEAST || turn::to_group(ctx)? || !in_pace() {
        return Err(Silent);
    }
    let quote = quoted(refused.v4, refused.end - NETWORK);
    turn::set_len(ctx, NETWORK + quote)?;
    let quoted = checksum_of_quote(ctx, refused, protocol, quote)?;

    let before = IpHeader::len(refused.v4) + HEADER;
    ctx.adjust_room(before as i32, BPF_ADJ_ROOM_MAC, 0)
        .map_err(|_| Silent)?;
    store(ctx, refused, matter, quoted, quote)?;
    turn::send_back(ctx)
}

/// Both headers, before `quote` bytes of the packet that sum up to `quoted`.
#[inline(always)]
pub fn store(
    ctx: &TcContext,
    refused: &Refused,
    Matter([kind, code], rest): Matter,
    quoted: Checksum,
    quote: u32,
) -> Result<(), Silent> {
    let len = (HEADER + quote) as u16;
    let (number, sum) = if refused.v4 {
        (ICMP, quoted)
    } else {
        let sum = quoted.pseudo_header(refused.destination, refused.source, ICMPV6, len);
        (ICMPV6, sum)
    };
    let head = u32::from_ne_bytes([kind, code, 0, 0]);
    let checksum = sum.word(head).word(rest).finish();
    let header = [head | u32::from(checksum) << 16, rest];
    turn::store(ctx, NETWORK + IpHeader::len(refused.v4), &header)?;
    turn::store_ip_header(ctx, refused, number, len)
}

/// A checksum that the sender left to the hardware is filled in at the place
/// where the packet is then: in the quote. It makes the sum over what TCP or UDP
/// have there the complement of what stands in the field until then.
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
    if protocol != Protocol::Sctp {
        let field = refused.transport
            + if protocol == Protocol::Tcp {
                TCP_CHECKSUM
            } else {
                UDP_CHECKSUM
            };
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

//! Turning a packet around: reading, rewriting and sending back what is in
//! hand. By helpers, which find every byte of a packet that is in pieces.

use aya_ebpf::{
    bindings::BPF_F_RECOMPUTE_CSUM,
    helpers::{bpf_redirect, bpf_skb_change_tail},
    programs::TcContext,
};
use vetch_ebpf_common::{Checksum, HOPS, IpHeader, Mac};

use crate::{
    from_tunnel,
    parse::ETH_HEADER,
    refuse::{Refused, Silent},
    verdict::PASS,
};

/// Offset of the IP header. A VLAN tag is not in the frame: the kernel has
/// taken it off, and puts it on the answer.
pub const NETWORK: u32 = ETH_HEADER as u32;

#[inline(always)]
pub fn ethertype(ctx: &TcContext) -> Result<u16, Silent> {
    load(ctx, NETWORK - 2).map(u16::from_be)
}

/// Whether the frame was sent to many.
#[inline(always)]
pub fn to_group(ctx: &TcContext) -> Result<bool, Silent> {
    let first: u8 = load(ctx, 0)?;
    Ok(first & 1 != 0)
}

#[inline(always)]
pub fn load<T>(ctx: &TcContext, offset: u32) -> Result<T, Silent> {
    ctx.load(offset as usize).map_err(|_| Silent)
}

/// For what stands behind the Ethernet header: a checksum that the hardware
/// made of it goes along.
#[inline(always)]
pub fn store<T>(ctx: &TcContext, offset: u32, value: &T) -> Result<(), Silent> {
    ctx.store(offset as usize, value, u64::from(BPF_F_RECOMPUTE_CSUM))
        .map_err(|_| Silent)
}

/// Cuts the packet. Makes it one of its own too: neither shared with others
/// nor in pieces nor waiting to be segmented.
#[inline(always)]
pub fn set_len(ctx: &TcContext, len: u32) -> Result<(), Silent> {
    // SAFETY: the helper checks the length against the packet.
    match unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) } {
        0 => Ok(()),
        _ => Err(Silent),
    }
}

/// Whether the checksum in `field` is one that the hardware is to complete
/// (CHECKSUM_PARTIAL, as it is for what comes from a pod). No field of the
/// context says it, but a change that such a checksum does not cover leaves it
/// alone. The field's value is lost.
#[inline(always)]
pub fn has_partial_checksum(ctx: &TcContext, field: u32) -> Result<bool, Silent> {
    const SIZE: u64 = 2;
    store(ctx, field, &0_u16)?;
    ctx.l4_csum_replace(field as usize, 0, 1, SIZE)
        .map_err(|_| Silent)?;
    let changed: u16 = load(ctx, field)?;
    Ok(changed == 0)
}

const CHUNK: u32 = 64;

/// The sum of a part of the packet, of at most `CHUNKS` times 64 bytes and
/// some. In pieces of known lengths: the verifier loses the bounds of others.
#[inline(always)]
pub fn sum<const CHUNKS: u32>(ctx: &TcContext, offset: u32, len: u32) -> Result<Checksum, Silent> {
    let chunks = len / CHUNK;
    if chunks > CHUNKS {
        return Err(Silent);
    }
    let mut sum = Checksum::default();
    for chunk in 0..CHUNKS {
        if chunk == chunks {
            break;
        }
        sum = sum.words(&load::<[u32; 16]>(ctx, offset + chunk * CHUNK)?);
    }
    // From the length, not from the loop: the verifier then sees one way on
    // from here instead of one for each number of chunks.
    let mut at = offset + chunks * CHUNK;
    let rest = len % CHUNK;
    if rest & 32 != 0 {
        sum = sum.words(&load::<[u32; 8]>(ctx, at)?);
        at += 32;
    }
    if rest & 16 != 0 {
        sum = sum.words(&load::<[u32; 4]>(ctx, at)?);
        at += 16;
    }
    if rest & 8 != 0 {
        sum = sum.words(&load::<[u32; 2]>(ctx, at)?);
        at += 8;
    }
    if rest & 4 != 0 {
        sum = sum.word(load(ctx, at)?);
        at += 4;
    }
    if rest & 2 != 0 {
        sum = sum.folded(load(ctx, at)?);
        at += 2;
    }
    if rest & 1 != 0 {
        sum = sum.folded(u16::from_ne_bytes([load(ctx, at)?, 0]));
    }
    Ok(sum)
}

/// How long the IP packet says it is, with its header.
#[inline(always)]
pub fn ip_len(ctx: &TcContext, v4: bool) -> Result<u32, Silent> {
    let (offset, before) = if v4 { (2, 0) } else { (4, 40) };
    let len: u16 = load(ctx, NETWORK + offset)?;
    Ok(before + u32::from(u16::from_be(len)))
}

/// The IP header of the answer to `refused`, for `len` bytes behind it.
#[inline(always)]
pub fn store_ip_header(
    ctx: &TcContext,
    refused: &Refused,
    protocol: u8,
    len: u16,
) -> Result<(), Silent> {
    let header = IpHeader {
        from: refused.destination,
        to: refused.source,
        protocol,
        len,
        hops: HOPS,
        class: 0,
        label: [0; 2],
    };
    store_header(ctx, refused.v4, &header)
}

#[inline(always)]
pub fn store_header(ctx: &TcContext, v4: bool, header: &IpHeader) -> Result<(), Silent> {
    if v4 {
        store(ctx, NETWORK, &header.v4())
    } else {
        store(ctx, NETWORK, &header.v6())
    }
}

/// To whom the frame came from. The tunnel takes nothing back as it came: its device is
/// told by routes where a packet goes, so there it is the stack's to send.
#[inline(always)]
pub fn send_back(ctx: &TcContext) -> Result<i32, Silent> {
    if from_tunnel::is_from_node(ctx.skb.skb) {
        return Ok(PASS);
    }
    let [to, from]: [Mac; 2] = load(ctx, 0)?;
    send(ctx, from, to)
}

/// Out of the interface it came in by.
#[inline(always)]
pub fn send(ctx: &TcContext, to: Mac, from: Mac) -> Result<i32, Silent> {
    // The kernel leaves the Ethernet header out of its sums here.
    ctx.store(0, &[to, from], 0).map_err(|_| Silent)?;
    // SAFETY: the context is the kernel's; the helper has no preconditions.
    Ok(unsafe { bpf_redirect((*ctx.skb.skb).ifindex, 0) } as i32)
}

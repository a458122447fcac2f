//! The one place where a packet's bytes are read and written.

use aya_ebpf::programs::TcContext;

/// The packet ends before its headers do.
pub struct Short;

/// Reads where headers are in most packets, in place if that is in the packet's
/// linear part; a helper reaches the rest without moving any of it.
#[inline(always)]
pub fn read_at<const OFFSET: u32, T: Copy>(ctx: &TcContext) -> Result<T, Short> {
    let at = ctx.data() + OFFSET as usize;
    if at + size_of::<T>() <= ctx.data_end() {
        // SAFETY: inside the packet. BPF has no alignment of its own; machines
        // that have one refuse the program when it is loaded. Volatile, lest
        // the compiler reads bytes one by one to please a stricter machine.
        return Ok(unsafe { (at as *const T).read_volatile() });
    }
    read(ctx, OFFSET)
}

/// Reads anywhere. To the verifier the offset is any number, so that it need
/// not follow each way by which one comes about.
#[inline(always)]
pub fn read<T: Copy>(ctx: &TcContext, offset: u32) -> Result<T, Short> {
    ctx.load(offset as usize).map_err(|_| Short)
}

/// Writes without a change to the checksum of the whole packet: the caller
/// makes up for what it writes. TCP's packets are clones whose headers may be
/// written; the helper knows, a store in place would copy the head first.
#[inline(always)]
pub fn write<T>(ctx: &TcContext, offset: u32, value: &T) -> Result<(), Short> {
    ctx.store(offset as usize, value, 0).map_err(|_| Short)
}

/// The device that the packet came in or goes out by.
#[inline(always)]
pub fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the verifier lets a classifier read the field.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Whether the frame was for this machine by its link address: an uplink may
/// show those of others too.
#[inline(always)]
pub fn is_for_us(ctx: &TcContext) -> bool {
    const PACKET_HOST: u32 = 0;
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).pkt_type == PACKET_HOST }
}

/// Whether the kernel has put a VLAN tag aside.
#[inline(always)]
pub fn has_tag(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

/// Whether the packet was received before, by whatever link.
#[inline(always)]
pub fn is_forwarded(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).ingress_ifindex != 0 }
}

/// The payload of the segments that the packet is still to be cut into; 0 if it
/// is not (5.7).
#[inline(always)]
pub fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).gso_size }
}

//! The one place where a packet's bytes are read and written, be it a packet of
//! the stack's or, before it is one, a driver's frame.

mod skb;
mod xdp;

use aya_ebpf::programs::TcContext;
use vetch_ebpf_common::Difference;

/// The packet ends before its headers do.
pub struct Short;

/// A packet in hand. What looks at packets and rewrites them is written for
/// either kind, and compiled for each.
pub trait Context {
    /// Whether it comes by again, as a packet of the stack's, if it goes on now.
    const COMES_AGAIN: bool;

    /// Of the part that can be read in place.
    fn start(&self) -> usize;
    fn end(&self) -> usize;
    /// Of the whole packet, its link header included.
    fn len(&self) -> u32;
    fn read<T: Copy>(&self, offset: u32) -> Result<T, Short>;
    fn write<T>(&self, offset: u32, value: &T) -> Result<(), Short>;
    /// The device that the packet came in or goes out by.
    fn ifindex(&self) -> u32;
    /// Corrects a checksum over nothing but the packet's own bytes.
    fn correct(&self, at: u32, change: Difference) -> Result<(), Short>;
    /// Corrects a transport's for a change of what it covers in the packet.
    /// `zero_is_none` says that one of 0 is none, and stays so.
    fn correct_transport(
        &self,
        at: u32,
        change: Difference,
        zero_is_none: bool,
    ) -> Result<(), Short>;
    /// And for one of the addresses, which its pseudo header has.
    fn correct_hosts(
        &self,
        at: u32,
        change: Difference,
        v4: bool,
        zero_is_none: bool,
    ) -> Result<(), Short>;
}

/// Reads where headers are in most packets, in place if that is in the packet's
/// linear part; a helper reaches the rest without moving any of it.
#[inline(always)]
pub fn read_at<const OFFSET: u32, T: Copy>(ctx: &impl Context) -> Result<T, Short> {
    let at = ctx.start() + OFFSET as usize;
    if at + size_of::<T>() <= ctx.end() {
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
pub fn read<T: Copy>(ctx: &impl Context, offset: u32) -> Result<T, Short> {
    ctx.read(offset)
}

/// Writes without a change to the checksum of the whole packet: the caller
/// makes up for what it writes.
#[inline(always)]
pub fn write<T>(ctx: &impl Context, offset: u32, value: &T) -> Result<(), Short> {
    ctx.write(offset, value)
}

/// The device that the packet came in or goes out by.
#[inline(always)]
pub fn ifindex(ctx: &impl Context) -> u32 {
    ctx.ifindex()
}

/// Whether the frame was for this machine by its link address: an uplink may
/// show those of others too.
#[inline(always)]
pub fn is_for_us(ctx: &TcContext) -> bool {
    const PACKET_HOST: u32 = 0;
    // SAFETY: the verifier lets a classifier read the field.
    unsafe { (*ctx.skb.skb).pkt_type == PACKET_HOST }
}

/// Whether the kernel has put a VLAN tag aside.
#[inline(always)]
pub fn has_tag(ctx: &TcContext) -> bool {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).vlan_present != 0 }
}

/// The link by which the packet was received; 0 for one of the node's own.
#[inline(always)]
pub fn came_by(ctx: &TcContext) -> u32 {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).ingress_ifindex }
}

/// The payload of the segments that the packet is still to be cut into; 0 if it
/// is not (5.7).
#[inline(always)]
pub fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: as above.
    unsafe { (*ctx.skb.skb).gso_size }
}

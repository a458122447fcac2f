//! Where packets went that came and went by one uplink: what a program at the
//! driver has to know to send the next ones, and has nobody to ask. The helper
//! that would ask the routes and neighbours (`bpf_fib_lookup`) is for programs
//! under the GPL.
//!
//! The stack has asked them for every packet that leaves the link. [`learn`]
//! reads it off these packets, each destination's once a second, so that a
//! route or a neighbour that changed is followed within that time, and the
//! stack goes on looking after its neighbours.

use aya_ebpf::{bindings::BPF_ANY, macros::map, maps::LruHashMap, programs::TcContext};
use vetch_ebpf_common::{Address, MAX_NEXT_HOPS, Mac, NextHop};

use crate::{
    access::{Short, has_tag, ifindex, read_at},
    flows, node,
};

/// By the packet's destination. Not pinned: a second makes it anew.
#[map]
static NEXT_HOPS: LruHashMap<Address, NextHop> = LruHashMap::with_max_entries(MAX_NEXT_HOPS, 0);

/// The link address of who takes packets for `to` at the link, if that is known.
#[inline(always)]
pub fn get(to: &Address, link: u32) -> Option<Mac> {
    // SAFETY: copied before it is used. An element recycled in between sends
    // one packet astray, which takes as many newer ones as the map holds.
    let hop = *unsafe { NEXT_HOPS.get(to) }?;
    hop.holds(link, flows::now()).then_some(hop.mac)
}

/// From a packet that leaves by the uplink, and came by `came_by`.
#[inline(always)]
pub fn learn(ctx: &TcContext, came_by: u32) {
    if node::learns_next_hops() && came_by == ifindex(ctx) {
        let _ = try_learn(ctx, came_by);
    }
}

#[inline(never)]
fn try_learn(ctx: &TcContext, link: u32) -> Result<(), Short> {
    let Some(to) = destination(ctx)? else {
        return Ok(());
    };
    let mac: Mac = read_at::<0, _>(ctx)?;
    let now = flows::now();
    // SAFETY: as above.
    if unsafe { NEXT_HOPS.get(&to) }.is_some_and(|hop| hop.mac == mac && hop.holds(link, now)) {
        return Ok(());
    }
    let _ = NEXT_HOPS.insert(&to, NextHop::new(mac, link, now), BPF_ANY.into());
    Ok(())
}

/// Of a packet without tags.
#[inline(always)]
fn destination(ctx: &TcContext) -> Result<Option<Address>, Short> {
    const ETHERTYPE: u32 = 12;
    const V4: u32 = 14 + 16;
    const V6: u32 = 14 + 24;
    if has_tag(ctx) {
        return Ok(None);
    }
    Ok(match read_at::<ETHERTYPE, [u8; 2]>(ctx)? {
        [0x08, 0x00] => Some(Address::v4_bits(read_at::<V4, _>(ctx)?)),
        [0x86, 0xdd] => Some(Address::v6_bits(read_at::<V6, _>(ctx)?)),
        _ => None,
    })
}

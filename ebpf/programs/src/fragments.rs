//! Ports for the fragments that have none.

use aya_ebpf::bindings::BPF_ANY;
use vetch_ebpf_common::FragmentKey;

use crate::{
    maps::FRAGMENTS,
    parse::{Fragment, Packet},
};

/// A datagram's first fragment is remembered, and what it said of its ports
/// holds for the others. One that comes before it has no ports; a sender's
/// order is rarely changed on the way.
#[inline(never)]
pub fn follow(packet: &mut Packet) {
    let key = FragmentKey::new(packet.src, packet.dst, packet.ip.id, packet.ip.protocol);
    match packet.ip.fragment {
        Fragment::Whole => {}
        Fragment::First => {
            let _ = FRAGMENTS.insert(&key, packet.tuple.ports(), BPF_ANY.into());
        }
        Fragment::Later => {
            // SAFETY: copied at once; an element recycled in between has
            // another datagram's ports, which takes 4,096 newer ones.
            if let Some(ports) = unsafe { FRAGMENTS.get(&key) }.copied() {
                packet.tuple.set_ports(ports);
            }
        }
    }
}

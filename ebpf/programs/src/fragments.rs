//! Ports for the fragments that have none.

use aya_ebpf::bindings::BPF_ANY;
use vetch_ebpf_common::{FragmentKey, FragmentPorts};

use crate::{
    flows,
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
            let ports = FragmentPorts::new(packet.tuple.ports(), flows::now());
            let _ = FRAGMENTS.insert(&key, ports, BPF_ANY.into());
        }
        Fragment::Later => {
            // SAFETY: copied at once; an element recycled in between has
            // another datagram's ports, which takes 4,096 newer ones.
            if let Some(first) = unsafe { FRAGMENTS.get(&key) }.copied()
                && !first.is_over(flows::now())
            {
                packet.tuple.set_ports(first.ports);
            }
        }
    }
}

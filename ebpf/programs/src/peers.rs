//! Other nodes' pods: whether an address is one's, and by which way they are
//! reached. The routes cannot be asked (`bpf_fib_lookup` is for programs under the
//! GPL); the daemon has read them.

use aya_ebpf::maps::lpm_trie::Key;
use vetch_ebpf_common::{Address, PeerPods};

use crate::{maps::PEER_PODS, node};

#[inline(always)]
fn get(address: &Address) -> Option<&PeerPods> {
    let [a, b, c, d] = address.bits();
    PEER_PODS.get(Key::new(128, [a, b, c, d]))
}

#[inline(never)]
pub fn has_pod(address: &Address) -> bool {
    get(address).is_some()
}

/// Whether it is a pod's on a node that is reached without the tunnel.
#[inline(never)]
pub fn has_pod_nearby(address: &Address) -> bool {
    get(address).is_some_and(|pods| !pods.are_in_tunnel())
}

/// The device of the tunnel, if the address is a pod's that is reached in it; else 0.
#[inline(never)]
pub fn tunnel_to(address: &Address) -> u32 {
    match get(address) {
        Some(pods) if pods.are_in_tunnel() => pods.link,
        _ => 0,
    }
}

/// The link that another node's pods are behind, the tunnel's device or an uplink; 0 if
/// the address is nobody's of them, or the daemon has not said.
#[inline(never)]
pub fn link_of(address: &Address) -> u32 {
    get(address).map_or(0, |pods| pods.link)
}

/// The link by which packets for another node leave; 0 if that is the stack's to say.
#[inline(always)]
pub fn link_to(address: &Address) -> u32 {
    match tunnel_to(address) {
        0 => node::link(),
        device => device,
    }
}

//! Answers to those who look for a load balancer's address on the link.

use aya_ebpf::programs::TcContext;

/// None: the packet is for the node's stack.
#[inline(always)]
pub fn answer(_ctx: &TcContext) -> Option<i32> {
    None
}

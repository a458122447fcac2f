//! `getpeername()`: the peer is the service that was dialled.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::reverse;

/// The kernel takes no other answer than 1 here.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    let _ = reverse::restore(&ctx);
    1
}

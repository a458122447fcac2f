//! What an application is told of its peer: the service that was dialled.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};

use crate::{address::Family, reverse};

/// The kernel takes no other answer than 1 from these hooks.
const OK: i32 = 1;

/// `recvfrom()` and `recvmsg()`.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    reverse::restore(&ctx, Family::V4);
    OK
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    reverse::restore(&ctx, Family::V6);
    OK
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    reverse::restore(&ctx, Family::V4);
    OK
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    reverse::restore(&ctx, Family::V6);
    OK
}

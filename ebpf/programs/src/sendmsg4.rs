//! `sendto()` and `sendmsg()` with an address: UDP sockets that have many peers.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use vetch_ebpf_common::Protocol;

use crate::{address, redirect::to_backend};

/// A socket stays with its backend for as long as the backends stay, because
/// a datagram may be one of a conversation.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    let cookie = address::cookie(&ctx);
    to_backend(&ctx, Protocol::Udp, spread(cookie))
}

/// Cookies are consecutive; the multiplier is 2^64 over the golden ratio.
#[inline(always)]
fn spread(cookie: u64) -> u32 {
    (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

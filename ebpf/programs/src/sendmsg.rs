//! `sendto()` and `sendmsg()` with an address: UDP sockets that have many peers.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use vetch_ebpf_common::{Protocol, Site};

use crate::{address::Family, redirect::to_backend};

/// A socket stays with its backend for as long as the backends stay, because
/// a datagram may be one of a conversation.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    to_backend(&ctx, Family::V4, Protocol::Udp as u8, Site::Sendmsg)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    to_backend(&ctx, Family::V6, Protocol::Udp as u8, Site::Sendmsg)
}

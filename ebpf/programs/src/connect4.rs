//! `connect()`: TCP, and UDP sockets that have one peer.

use aya_ebpf::{helpers::bpf_get_prandom_u32, macros::cgroup_sock_addr, programs::SockAddrContext};
use vetch_ebpf_common::Protocol;

use crate::{
    address,
    redirect::{PROCEED, to_backend},
};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    let Ok(protocol) = Protocol::try_from(address::protocol(&ctx)) else {
        return PROCEED;
    };
    // SAFETY: the helper has no preconditions.
    let seed = unsafe { bpf_get_prandom_u32() };
    to_backend(&ctx, protocol, seed)
}

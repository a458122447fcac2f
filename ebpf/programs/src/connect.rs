//! `connect()`: TCP, and UDP sockets that have one peer.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use vetch_ebpf_common::{Protocol, Site};

use crate::{
    address::{self, Family},
    redirect::{PROCEED, to_backend},
};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    match Protocol::try_from(address::protocol(ctx)) {
        // Read again, so that it is any number to the verifier: it need not
        // follow the way once for each protocol.
        Ok(Protocol::Tcp | Protocol::Udp) => {
            to_backend(ctx, family, address::protocol(ctx), Site::Connect)
        }
        // An SCTP association has many addresses; its packets are balanced.
        _ => PROCEED,
    }
}

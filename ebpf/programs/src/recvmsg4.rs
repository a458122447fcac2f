//! `recvfrom()` and `recvmsg()`: an answer from a backend comes from the service.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use aya_log_ebpf::debug;

use crate::{address, reverse};

/// The kernel takes no other answer than 1 here.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    if let Some((backend, service)) = reverse::restore(&ctx) {
        let ((at, at_port), (to, to_port)) = (address::parts(backend), address::parts(service));
        debug!(
            &ctx,
            "answer of {:i}:{} shown as {:i}:{}", at, at_port, to, to_port
        );
    }
    1
}

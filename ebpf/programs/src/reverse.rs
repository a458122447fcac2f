//! Remembering which service address a backend stands for, per socket: in the
//! socket's own storage for TCP, which has one peer, and in a map for UDP.

use aya_ebpf::programs::SockAddrContext;
use vetch_ebpf_common::{Endpoint, Protocol, ReverseKey};

use crate::{
    address::{self, Family},
    connection,
    maps::REVERSE,
};

/// Must come before the call is pointed at the backend: an answer may be
/// faster than what follows.
#[inline(always)]
pub fn remember(
    cookie: u64,
    service: Endpoint,
    backend: Endpoint,
    protocol: u8,
) -> Result<(), i32> {
    REVERSE.insert(ReverseKey::new(cookie, backend, protocol), service, 0)
}

/// Whether the socket has been pointed at the backend before.
#[inline(always)]
pub fn knows(cookie: u64, backend: Endpoint, protocol: u8) -> bool {
    let key = ReverseKey::new(cookie, backend, protocol);
    REVERSE.get_ptr(&key).is_some()
}

/// Shows the application the service address instead of the backend's.
#[inline(always)]
pub fn restore(ctx: &SockAddrContext, family: Family) {
    let backend = address::remote(ctx, family);
    let protocol = address::protocol(ctx);
    if protocol == Protocol::Tcp as u8 {
        if let Some(service) = connection::dialled(ctx, backend) {
            address::set_remote(ctx, family, service);
        }
        return;
    }
    let key = ReverseKey::new(address::cookie(ctx), backend, protocol);
    // SAFETY: copied before it is used; an element recycled in between would
    // show another service of this machine once, which the least-recently-used
    // order makes a matter of 65,536 newer sockets.
    if let Some(service) = unsafe { REVERSE.get(key) } {
        address::set_remote(ctx, family, *service);
    }
}

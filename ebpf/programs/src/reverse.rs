//! Remembering which service address a backend stands for, per socket.

use aya_ebpf::programs::SockAddrContext;
use vetch_ebpf_common::{Endpoint, Protocol, ReverseKey};

use crate::{address, maps::REVERSE};

/// Must come before the call is pointed at the backend: an answer may be
/// faster than what follows.
#[inline(always)]
pub fn remember(
    ctx: &SockAddrContext,
    service: Endpoint,
    backend: Endpoint,
    protocol: Protocol,
) -> Result<(), i32> {
    REVERSE.insert(
        ReverseKey::new(address::cookie(ctx), backend, protocol as u8),
        service,
        0,
    )
}

/// Shows the application the service address instead of the backend's.
#[inline(always)]
pub fn restore(ctx: &SockAddrContext) -> Option<(Endpoint, Endpoint)> {
    let backend = address::remote(ctx);
    let key = ReverseKey::new(address::cookie(ctx), backend, address::protocol(ctx));
    // SAFETY: the value is one aligned word, copied before it is used; an
    // element recycled in between would show another service of this machine
    // once, which the least-recently-used order makes a matter of 65,536
    // newer sockets.
    let service = *unsafe { REVERSE.get(key) }?;
    address::set_remote(ctx, service);
    Some((backend, service))
}

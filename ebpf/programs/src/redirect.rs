//! Pointing a call at a backend.

use aya_ebpf::{helpers::bpf_set_retval, programs::SockAddrContext};
use aya_log_ebpf::debug;
use vetch_ebpf_common::{Endpoint, Protocol};

use crate::{
    address,
    balance::{Choice, choose},
    reverse,
};

/// The verdicts of a sock_addr program.
pub const PROCEED: i32 = 1;
const REFUSE: i32 = 0;

const ECONNREFUSED: i32 = 111;

/// Sends the call to a backend of the service it is for, if it is for one.
#[inline(always)]
pub fn to_backend(ctx: &SockAddrContext, protocol: Protocol, seed: u32) -> i32 {
    let service = address::remote(ctx);
    let backend = match choose(service, protocol, seed) {
        Choice::NotAService => return PROCEED,
        Choice::NoBackends => return refuse(ctx, service),
        Choice::Backend(backend) => backend,
    };
    if reverse::remember(ctx, service, backend, protocol).is_err() {
        return refuse(ctx, service);
    }
    address::set_remote(ctx, backend);
    let ((to, to_port), (at, at_port)) = (address::parts(service), address::parts(backend));
    debug!(
        ctx,
        "{:i}:{} protocol {} -> {:i}:{}", to, to_port, protocol as u8, at, at_port
    );
    PROCEED
}

/// ECONNREFUSED, as from a closed port: EPERM makes in-kernel clients such as
/// NFS try again for ever.
#[inline(always)]
fn refuse(ctx: &SockAddrContext, service: Endpoint) -> i32 {
    // SAFETY: the helper has no preconditions; 5.18.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    let (to, to_port) = address::parts(service);
    debug!(ctx, "{:i}:{} has no backends: refused", to, to_port);
    REFUSE
}

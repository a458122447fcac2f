//! The address fields of a `bpf_sock_addr`, in one place.

use aya_ebpf::{EbpfContext as _, helpers::bpf_get_socket_cookie, programs::SockAddrContext};
use vetch_ebpf_common::Endpoint;

/// Where the call goes to or came from. The kernel keeps both fields in
/// network order; the port's are the first two bytes of its word.
#[inline(always)]
pub fn remote(ctx: &SockAddrContext) -> Endpoint {
    // SAFETY: the verifier lets a sock_addr program read these two fields.
    let (addr, port) = unsafe { ((*ctx.sock_addr).user_ip4, (*ctx.sock_addr).user_port) };
    Endpoint::new(addr.to_ne_bytes(), (port as u16).to_ne_bytes())
}

#[inline(always)]
pub fn set_remote(ctx: &SockAddrContext, to: Endpoint) {
    // SAFETY: as above, and both may be written in whole words.
    unsafe {
        (*ctx.sock_addr).user_ip4 = u32::from_ne_bytes(to.addr());
        (*ctx.sock_addr).user_port = u16::from_ne_bytes(to.port()) as u32;
    }
}

#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: readable, as above.
    unsafe { (*ctx.sock_addr).protocol as u8 }
}

#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes any sock_addr context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// For log lines.
#[inline(always)]
pub fn parts(endpoint: Endpoint) -> (u32, u16) {
    (
        u32::from_be_bytes(endpoint.addr()),
        u16::from_be_bytes(endpoint.port()),
    )
}

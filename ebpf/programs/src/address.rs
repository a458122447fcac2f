//! The address fields of a `bpf_sock_addr`, in one place.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use vetch_ebpf_common::{Address, Endpoint};

/// The fields of the hook's family. A socket of IPv6 that dials an IPv4
/// address has it mapped, and so do we.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Where the call goes to or came from. The kernel keeps the fields in
/// network order; the port's are the first two bytes of its word.
#[inline(always)]
pub fn remote(ctx: &SockAddrContext, family: Family) -> Endpoint {
    let ctx = ctx.sock_addr;
    // SAFETY: the verifier lets a sock_addr program read these fields, the
    // address by words of 4 bytes.
    unsafe {
        let addr = match family {
            Family::V4 => Address::v4_bits((*ctx).user_ip4),
            Family::V6 => Address::v6_bits([
                (&raw const (*ctx).user_ip6[0]).read_volatile(),
                (&raw const (*ctx).user_ip6[1]).read_volatile(),
                (&raw const (*ctx).user_ip6[2]).read_volatile(),
                (&raw const (*ctx).user_ip6[3]).read_volatile(),
            ]),
        };
        Endpoint::new(addr, ((*ctx).user_port as u16).to_ne_bytes())
    }
}

#[inline(always)]
pub fn set_remote(ctx: &SockAddrContext, family: Family, to: Endpoint) {
    let ctx = ctx.sock_addr;
    let [a, b, c, d] = to.addr().bits();
    // SAFETY: as above, and all may be written in whole words.
    unsafe {
        match family {
            Family::V4 => (*ctx).user_ip4 = d,
            Family::V6 => {
                (&raw mut (*ctx).user_ip6[0]).write_volatile(a);
                (&raw mut (*ctx).user_ip6[1]).write_volatile(b);
                (&raw mut (*ctx).user_ip6[2]).write_volatile(c);
                (&raw mut (*ctx).user_ip6[3]).write_volatile(d);
            }
        }
        (*ctx).user_port = u16::from_ne_bytes(to.port()) as u32;
    }
}

#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u8 {
    // SAFETY: readable, as above.
    unsafe { (&raw const (*ctx.sock_addr).protocol).read_volatile() as u8 }
}

#[inline(always)]
pub fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes any sock_addr context.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The cookie of the caller's network namespace.
#[inline(always)]
pub fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes any sock_addr context (5.7).
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}

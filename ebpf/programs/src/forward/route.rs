//! Out by a known link, without the node's stack.
//!
//! Which link leads to an address is the stack's to say: the helper that would
//! ask the routes (`bpf_fib_lookup`) is for programs under the GPL.

use aya_ebpf::{helpers::bpf_redirect_neigh, programs::TcContext};

use crate::{
    access::{Short, read, write},
    nat,
    parse::Header,
    verdict::{Error, PASS},
};

/// To the neighbour that the link's routes name (5.10). A packet that has no
/// hop left is the stack's, which says so to its sender.
#[inline(always)]
pub fn by_link(ctx: &TcContext, ip: &Header, ifindex: u32) -> Result<i32, Error> {
    if !older(ctx, ip)? {
        return Ok(PASS);
    }
    // SAFETY: the helper takes any number; without parameters it looks the
    // destination up itself.
    let verdict = unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) };
    Ok(verdict as i32)
}

/// One hop; false if there is none left.
#[inline(always)]
fn older(ctx: &TcContext, ip: &Header) -> Result<bool, Short> {
    const TTL: u32 = 8;
    const HOP_LIMIT: u32 = 7;
    let at = ip.l3 + if ip.v4 { TTL } else { HOP_LIMIT };
    let [hops]: [u8; 1] = read(ctx, at)?;
    if hops <= 1 {
        return Ok(false);
    }
    if ip.v4 {
        nat::correct_ttl(ctx, ip, hops)?;
    }
    write(ctx, at, &[hops - 1])?;
    Ok(true)
}

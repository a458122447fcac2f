//! Whose an address and port is.

use vetch_ebpf_common::{Address, Endpoint, Frontend, FrontendKey, addresses};

use crate::maps::{ADDRESSES, FRONTENDS};

pub enum Found {
    /// Nobody's service address: the call or packet goes where it was going.
    NotAService,
    /// A service's address, but none of its ports.
    UnknownPort,
    Frontend(Frontend),
}

/// `loopback_is_node` says whether 127.0.0.1 and ::1 are the node's, as they
/// are for its own processes and for no pod.
#[inline(always)]
pub fn find(to: Endpoint, protocol: u8, loopback_is_node: impl FnOnce() -> bool) -> Found {
    let is_loopback = to.addr().is_loopback();
    // First: a host port may be at the node's loopback address, which is every
    // pod's own as well.
    if is_loopback && !loopback_is_node() {
        return Found::NotAService;
    }
    if let Some(frontend) = at(to, protocol) {
        return Found::Frontend(frontend);
    }
    let flags = if is_loopback {
        addresses::NODE
    } else {
        address(to.addr())
    };
    if flags & addresses::NODE != 0 {
        // A port of the node: a NodePort, or some process's own.
        return match at(Endpoint::new(to.addr().any(), to.port()), protocol) {
            Some(frontend) => Found::Frontend(frontend),
            None => Found::NotAService,
        };
    }
    if flags & addresses::SERVICE != 0 {
        return Found::UnknownPort;
    }
    Found::NotAService
}

/// What the address is; 0 for one that nobody here has.
#[inline(always)]
pub fn address(address: Address) -> u32 {
    // SAFETY: one aligned u32, written whole; the map is not preallocated, so a
    // removed element is freed only after this program has ended (RCU).
    unsafe { ADDRESSES.get(address) }.copied().unwrap_or(0)
}

#[inline(always)]
fn at(to: Endpoint, protocol: u8) -> Option<Frontend> {
    // SAFETY: one aligned word, written whole; freed as above.
    unsafe { FRONTENDS.get(FrontendKey::new(to, protocol)) }.copied()
}

//! The node this object was loaded for: read-only data, known to the verifier.

use vetch_ebpf_common::Address;

#[unsafe(no_mangle)]
static NODE_NETNS: u64 = 0;
#[unsafe(no_mangle)]
static NODE_V4: [u32; 1] = [0];
#[unsafe(no_mangle)]
static NODE_V6: [u32; 4] = [0; 4];
#[unsafe(no_mangle)]
static NODE_LINK: u32 = 0;
#[unsafe(no_mangle)]
static VXLAN_VNI: u32 = 0;
#[unsafe(no_mangle)]
static DIRECT_RETURN: u32 = 0;
#[unsafe(no_mangle)]
static MASQUERADE: u32 = 0;
#[unsafe(no_mangle)]
static LEARN_NEXT_HOPS: u32 = 0;

/// Whether a namespace is the node's. Cookie 1 or the initial namespace would
/// be wrong for a node that is itself in one.
#[inline(always)]
pub fn is_node(netns: u64) -> bool {
    // SAFETY: a constant of this object; volatile, because the loader writes it
    // after the compiler has seen its value.
    netns == unsafe { core::ptr::read_volatile(&raw const NODE_NETNS) }
}

/// The node's address of a family; zero if it has none.
#[inline(always)]
pub fn address(v4: bool) -> Address {
    // SAFETY: as above.
    unsafe {
        if v4 {
            let [bits] = core::ptr::read_volatile(&raw const NODE_V4);
            Address::v4_bits(bits)
        } else {
            Address::v6_bits(core::ptr::read_volatile(&raw const NODE_V6))
        }
    }
}

/// The uplink that leads to every other node; 0 if that is the stack's to say.
#[inline(always)]
pub fn link() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const NODE_LINK) }
}

/// The identifier of what nodes send each other in VXLAN.
#[inline(always)]
pub fn vni() -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const VXLAN_VNI) }
}

/// Whether backends on other nodes answer clients outside themselves.
#[inline(always)]
pub fn returns_directly() -> bool {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const DIRECT_RETURN) != 0 }
}

/// Whether what pods send out of the cluster goes with the node's address.
#[inline(always)]
pub fn masquerades() -> bool {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const MASQUERADE) != 0 }
}

/// Whether a program at the driver asks where packets went.
#[inline(always)]
pub fn learns_next_hops() -> bool {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const LEARN_NEXT_HOPS) != 0 }
}

//! Datagrams in several packets, of which only the first has ports.

use crate::Address;

/// One such datagram. The value are the two ports as they stand in a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    src: Address,
    dst: Address,
    /// The identification as it stands in a packet, of IPv4 with zeros behind.
    id: u32,
    protocol: u8,
    pad: [u8; 3],
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

impl FragmentKey {
    #[inline(always)]
    pub const fn new(src: Address, dst: Address, id: u32, protocol: u8) -> Self {
        Self {
            src,
            dst,
            id,
            protocol,
            pad: [0; 3],
        }
    }
}

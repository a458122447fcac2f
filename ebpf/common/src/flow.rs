//! The packets of one conversation with a service, and what they are rewritten
//! to.

use crate::Address;

/// One direction of a conversation, as its packets have it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub src: Address,
    pub dst: Address,
    pub sport: [u8; 2],
    pub dport: [u8; 2],
    pub protocol: u8,
    pad: [u8; 3],
}

const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    #[inline(always)]
    pub const fn new(
        src: Address,
        dst: Address,
        sport: [u8; 2],
        dport: [u8; 2],
        protocol: u8,
    ) -> Self {
        Self {
            src,
            dst,
            sport,
            dport,
            protocol,
            pad: [0; 3],
        }
    }

    /// The other direction.
    #[inline(always)]
    pub const fn reverse(&self) -> Self {
        Self::new(self.dst, self.src, self.dport, self.sport, self.protocol)
    }
}

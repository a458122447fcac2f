//! One direction of a conversation.

use crate::{Address, Endpoint};

/// As its packets have it.
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
    pub const fn new(src: Endpoint, dst: Endpoint, protocol: u8) -> Self {
        Self {
            src: src.addr(),
            dst: dst.addr(),
            sport: src.port(),
            dport: dst.port(),
            protocol,
            pad: [0; 3],
        }
    }

    #[inline(always)]
    pub const fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.dport)
    }

    #[inline(always)]
    pub const fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.sport)
    }

    /// The other direction.
    #[inline(always)]
    pub const fn reverse(&self) -> Self {
        Self::new(self.destination(), self.source(), self.protocol)
    }

    #[inline(always)]
    pub fn is_reverse_of(&self, other: &Self) -> bool {
        *self == other.reverse()
    }

    /// Both ports as they stand in a packet.
    #[inline(always)]
    pub const fn ports(&self) -> u32 {
        let ([a, b], [c, d]) = (self.sport, self.dport);
        u32::from_ne_bytes([a, b, c, d])
    }

    #[inline(always)]
    pub const fn set_ports(&mut self, ports: u32) {
        let [a, b, c, d] = ports.to_ne_bytes();
        self.sport = [a, b];
        self.dport = [c, d];
    }
}

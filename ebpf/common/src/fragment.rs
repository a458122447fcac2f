//! Datagrams in several packets, of which only the first has ports.

use crate::Address;

/// One such datagram; the value is [`FragmentPorts`].
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

/// What a datagram's first fragment said.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentPorts {
    /// Both as they stand in a packet.
    pub ports: u32,
    pad: u32,
    /// When it came; `CLOCK_MONOTONIC`.
    seen: u64,
}

const _: () = assert!(size_of::<FragmentPorts>() == 16);

impl FragmentPorts {
    /// As long as a receiver waits for a datagram to be whole (RFC 8200, 4.5);
    /// after it the identification may be another's.
    const LIFETIME: u64 = 60_000_000_000;

    #[inline(always)]
    pub const fn new(ports: u32, now: u64) -> Self {
        Self {
            ports,
            pad: 0,
            seen: now,
        }
    }

    #[inline(always)]
    pub const fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.seen) > Self::LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_ends_after_a_minute() {
        const SECOND: u64 = 1_000_000_000;
        let ports = FragmentPorts::new(1, 5 * SECOND);
        for (now, over) in [(4, false), (5, false), (65, false), (66, true)] {
            assert_eq!(ports.is_over(now * SECOND), over, "{now}");
        }
    }
}

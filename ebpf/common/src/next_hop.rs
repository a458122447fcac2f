//! Who takes a node's packets for an address, on a link.

use crate::neighbour::Mac;

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// When a packet went there; `CLOCK_MONOTONIC`.
    seen: u64,
    link: u32,
    pub mac: Mac,
    pad: [u8; 6],
}

const _: () = assert!(size_of::<NextHop>() == 24);

impl NextHop {
    /// How long what was seen is taken for what is. So long a packet may go to
    /// where the route or the neighbour was before it changed.
    pub const LIFETIME: u64 = 1_000_000_000;

    #[inline(always)]
    pub const fn new(mac: Mac, link: u32, now: u64) -> Self {
        Self {
            seen: now,
            link,
            mac,
            pad: [0; 6],
        }
    }

    /// Whether packets go there by this link.
    #[inline(always)]
    pub const fn holds(&self, link: u32, now: u64) -> bool {
        // Processors differ by a tick of the coarse clock.
        self.link == link && now.saturating_sub(self.seen) < Self::LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_at_its_link_for_its_time() {
        let seen = 5 * NextHop::LIFETIME;
        let hop = NextHop::new([2; 6], 7, seen);
        for (link, now, holds) in [
            (7, seen, true),
            (7, seen - 1, true),
            (7, seen + NextHop::LIFETIME - 1, true),
            (7, seen + NextHop::LIFETIME, false),
            (8, seen, false),
        ] {
            assert_eq!(hop.holds(link, now), holds, "{link} {now}");
        }
    }
}

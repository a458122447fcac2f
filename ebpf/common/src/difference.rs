//! What a rewritten field does to an Internet checksum (RFC 1624).

use crate::{Address, Tuple};

/// The difference that a change makes to the sum, in one's complement, as
/// `bpf_l3_csum_replace` and `bpf_l4_csum_replace` take it with size 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference(u32);

impl Difference {
    pub const NONE: Self = Self(0);

    #[inline(always)]
    pub const fn of_words(old: u32, new: u32) -> Self {
        Self(fold(!old as u64 + new as u64))
    }

    #[inline(always)]
    pub const fn of_addresses(old: Address, new: Address) -> Self {
        let (old, new) = (old.bits(), new.bits());
        let mut sum = 0;
        let mut at = 0;
        while at < 4 {
            sum += !old[at] as u64 + new[at] as u64;
            at += 1;
        }
        Self(fold(sum))
    }

    /// Of both addresses.
    #[inline(always)]
    pub const fn of_hosts(old: &Tuple, new: &Tuple) -> Self {
        Self::of_addresses(old.src, new.src).and(Self::of_addresses(old.dst, new.dst))
    }

    /// Of both ports.
    #[inline(always)]
    pub const fn of_ports(old: &Tuple, new: &Tuple) -> Self {
        Self::of_words(old.ports(), new.ports())
    }

    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(fold(self.0 as u64 + other.0 as u64))
    }

    /// The checksum after the change.
    #[inline(always)]
    pub const fn corrected(self, checksum: u16) -> u16 {
        let sum = !checksum as u64 + self.0 as u64;
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }

    /// Of the change back. What a corrected checksum does to a sum that
    /// covers it.
    #[inline(always)]
    pub const fn negated(self) -> Self {
        Self(!self.0)
    }

    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

#[inline(always)]
const fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum over bytes, from scratch.
    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum = bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    /// As the kernel applies a difference: `csum_replace_by_diff`.
    fn apply(checksum: u16, difference: Difference) -> u16 {
        let mut sum = u64::from(!checksum) + u64::from(difference.bits());
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        assert_eq!(difference.corrected(checksum), !(sum as u16));
        !(sum as u16)
    }

    #[test]
    fn a_difference_corrects_the_checksum() {
        let addresses = [
            "10.96.0.1",
            "255.255.255.255",
            "0.0.0.1",
            "fd00::1",
            "ffff:ffff::ffff",
        ]
        .map(|text| Address::from(text.parse::<core::net::IpAddr>().unwrap()));
        for old in addresses {
            for new in addresses {
                let difference = Difference::of_addresses(old, new);
                let before = checksum(&old.octets());
                assert_eq!(
                    apply(before, difference),
                    checksum(&new.octets()),
                    "{old:?} {new:?}"
                );
                let back = apply(apply(before, difference), difference.negated());
                assert_eq!(back, before);
            }
        }
        for (old, new) in [(0x1234_5678, 0x8765_4321), (u32::MAX, 1), (1, u32::MAX)] {
            let before = checksum(&old.to_ne_bytes());
            let difference = Difference::of_words(old, new);
            assert_eq!(apply(before, difference), checksum(&new.to_ne_bytes()));
            assert_eq!(
                apply(before, difference.and(Difference::NONE)),
                checksum(&new.to_ne_bytes())
            );
        }
    }
}

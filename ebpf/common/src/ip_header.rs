//! IP headers that the programs make: of answers, and before packets that go on
//! as they came.

use crate::{Address, Checksum};

/// A header without options and extensions; both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHeader {
    pub from: Address,
    pub to: Address,
    /// Of what follows.
    pub protocol: u8,
    /// How many bytes follow.
    pub len: u16,
    pub hops: u8,
    /// The class of service, without congestion's two bits.
    pub class: u8,
    /// IPv4's identification, the last 16 bits of IPv6's flow label.
    pub label: [u8; 2],
}

/// The hops that packets made here have before them.
pub const HOPS: u8 = 64;

impl IpHeader {
    pub const V4_LEN: u32 = 20;
    pub const V6_LEN: u32 = 40;

    #[inline(always)]
    pub const fn len(v4: bool) -> u32 {
        if v4 { Self::V4_LEN } else { Self::V6_LEN }
    }

    /// Not to be fragmented, so that it needs no identification (RFC 6864).
    #[inline(always)]
    pub fn v4(&self) -> [u32; 5] {
        let [len_high, len_low] = self.len.wrapping_add(Self::V4_LEN as u16).to_be_bytes();
        let [label_high, label_low] = self.label;
        let [_, _, _, from] = self.from.bits();
        let [_, _, _, to] = self.to.bits();
        let mut words = [
            u32::from_ne_bytes([0x45, self.class, len_high, len_low]),
            u32::from_ne_bytes([label_high, label_low, 0x40, 0]),
            u32::from_ne_bytes([self.hops, self.protocol, 0, 0]),
            from,
            to,
        ];
        let [high, low] = Checksum::default().words(&words).finish().to_ne_bytes();
        words[2] = u32::from_ne_bytes([self.hops, self.protocol, high, low]);
        words
    }

    #[inline(always)]
    pub fn v6(&self) -> [u32; 10] {
        let [len_high, len_low] = self.len.to_be_bytes();
        let [label_high, label_low] = self.label;
        let [from_a, from_b, from_c, from_d] = self.from.bits();
        let [to_a, to_b, to_c, to_d] = self.to.bits();
        [
            u32::from_ne_bytes([
                0x60 | self.class >> 4,
                self.class << 4,
                label_high,
                label_low,
            ]),
            u32::from_ne_bytes([len_high, len_low, self.protocol, self.hops]),
            from_a,
            from_b,
            from_c,
            from_d,
            to_a,
            to_b,
            to_c,
            to_d,
        ]
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn header(from: &str, to: &str) -> IpHeader {
        let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
        IpHeader {
            from: address(from),
            to: address(to),
            protocol: 17,
            len: 0x0153,
            hops: 63,
            class: 0xb8,
            label: [0x1f, 0x90],
        }
    }

    fn bytes<const WORDS: usize>(words: [u32; WORDS]) -> std::vec::Vec<u8> {
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    #[test]
    fn by_the_letter_of_rfc_791() {
        let words = header("192.0.2.1", "198.51.100.2").v4();
        assert_eq!(Checksum::default().words(&words).finish(), 0);
        let expected = [
            0x45, 0xb8, 0x01, 0x67, 0x1f, 0x90, 0x40, 0, 63, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100,
            2,
        ];
        let mut found = bytes(words);
        found[10..12].fill(0);
        assert_eq!(found, expected);
    }

    #[test]
    fn by_the_letter_of_rfc_8200() {
        let found = bytes(header("2001:db8::1", "fd00::2").v6());
        let mut expected = std::vec![0x6b, 0x80, 0x1f, 0x90, 0x01, 0x53, 17, 63];
        expected.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(found, expected);
    }
}

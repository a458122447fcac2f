//! The Internet checksum (RFC 1071), over words as they stand in a packet.

use crate::Address;

/// A one's complement sum in the making. The order of bytes does not matter to
/// it, so words are taken in the machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    #[inline(always)]
    pub const fn word(self, word: u32) -> Self {
        // 2^32 words fit before this overflows.
        Self(self.0 + word as u64)
    }

    #[inline(always)]
    pub fn words<const N: usize>(self, words: &[u32; N]) -> Self {
        words.iter().fold(self, |sum, word| sum.word(*word))
    }

    /// The pseudo-header of TCP, UDP and ICMPv6, of both families: what marks
    /// an IPv4 address as mapped adds 0xffff, which is nothing.
    #[inline(always)]
    pub fn pseudo_header(
        self,
        source: Address,
        destination: Address,
        protocol: u8,
        len: u16,
    ) -> Self {
        self.words(&source.bits())
            .words(&destination.bits())
            .word((protocol as u32).to_be())
            .word((len as u32).to_be())
    }

    /// Takes a sum already folded, such as a checksum field holds.
    #[inline(always)]
    pub const fn folded(self, sum: u16) -> Self {
        self.word(sum as u32)
    }

    /// The sum in 16 bits, as it is left for hardware to go on from.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// What goes into the field.
    #[inline(always)]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the letter of RFC 1071, in network order.
    fn by_the_letter(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !sum as u16
    }

    #[test]
    fn an_ipv4_header() {
        // RFC 1071's arithmetic on a header with a known checksum.
        let header: [u8; 20] = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        let mut words = [0; 5];
        for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap());
        }
        let sum = Checksum::default().words(&words).finish();
        assert_eq!(sum.to_ne_bytes(), [0xb8, 0x61]);
        assert_eq!(
            u16::from_be_bytes(sum.to_ne_bytes()),
            by_the_letter(&header)
        );
    }

    #[test]
    fn carries_do_not_get_lost() {
        for count in [1, 2, 3, 100, 65_537] {
            let mut sum = Checksum::default();
            let mut bytes = std_vec();
            for _ in 0..count {
                sum = sum.word(u32::from_ne_bytes([0xff, 0xfe, 0xff, 0xfd]));
                bytes.extend([0xff, 0xfe, 0xff, 0xfd]);
            }
            let got = u16::from_be_bytes(sum.finish().to_ne_bytes());
            if count < 10_000 {
                assert_eq!(got, by_the_letter(&bytes), "{count}");
            }
            // What was folded goes on as what was not.
            let again = Checksum::default().folded(sum.fold()).finish();
            assert_eq!(again, sum.finish());
        }
    }

    fn std_vec() -> std::vec::Vec<u8> {
        std::vec::Vec::new()
    }

    #[test]
    fn pseudo_headers_of_both_families() {
        let v4 = Checksum::default().pseudo_header(
            Address::v4([192, 0, 2, 1]),
            Address::v4([198, 51, 100, 2]),
            6,
            20,
        );
        let bytes = [192, 0, 2, 1, 198, 51, 100, 2, 0, 6, 0, 20];
        assert_eq!(
            u16::from_be_bytes(v4.finish().to_ne_bytes()),
            by_the_letter(&bytes)
        );
        let (source, destination) = ([0x20; 16], [0xfd; 16]);
        let v6 = Checksum::default().pseudo_header(
            Address::from_octets(source),
            Address::from_octets(destination),
            58,
            1240,
        );
        let mut bytes = std_vec();
        bytes.extend(source);
        bytes.extend(destination);
        bytes.extend([0, 0, 0x04, 0xd8, 0, 0, 0, 58]);
        assert_eq!(
            u16::from_be_bytes(v6.finish().to_ne_bytes()),
            by_the_letter(&bytes)
        );
    }
}

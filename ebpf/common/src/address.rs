//! Addresses of both families in one shape.

#[cfg(target_endian = "big")]
compile_error!("the programs are built for bpfel-unknown-none");

/// An IPv6 address in network order, as two words; an IPv4 address is mapped
/// (`::ffff:192.0.2.1`, RFC 4291 2.5.5.2), so that one map serves both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    high: u64,
    low: u64,
}

const _: () = assert!(size_of::<Address>() == 16);

/// The first half of the low word of a mapped address: `0:0:ff:ff`.
const MAPPED: u64 = 0xffff_0000;

impl Address {
    /// 0.0.0.0: the address of NodePort frontends.
    pub const ANY_V4: Self = Self::v4_bits(0);
    /// ::
    pub const ANY_V6: Self = Self { high: 0, low: 0 };

    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_bits(u32::from_ne_bytes(octets))
    }

    /// From the word as it stands in a packet.
    #[inline(always)]
    pub const fn v4_bits(bits: u32) -> Self {
        Self {
            high: 0,
            low: (bits as u64) << 32 | MAPPED,
        }
    }

    /// From the four words as they stand in a packet.
    #[inline(always)]
    pub const fn v6_bits([a, b, c, d]: [u32; 4]) -> Self {
        Self {
            high: (b as u64) << 32 | a as u64,
            low: (d as u64) << 32 | c as u64,
        }
    }

    #[inline(always)]
    pub const fn from_words([high, low]: [u64; 2]) -> Self {
        Self { high, low }
    }

    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        [self.high, self.low]
    }

    #[inline(always)]
    pub const fn bits(self) -> [u32; 4] {
        [
            self.high as u32,
            (self.high >> 32) as u32,
            self.low as u32,
            (self.low >> 32) as u32,
        ]
    }

    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low as u32 as u64 == MAPPED
    }

    /// The word as it stands in a packet, if it is an IPv4 address.
    #[inline(always)]
    pub const fn to_v4_bits(self) -> Option<u32> {
        if self.is_v4() {
            Some((self.low >> 32) as u32)
        } else {
            None
        }
    }

    /// 127.0.0.0/8 or ::1.
    #[inline(always)]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() {
            (self.low >> 32) as u8 == 127
        } else {
            self.high == 0 && self.low == 1 << 56
        }
    }

    /// Link-local of IPv6, or none at all, which is whose a host is that has no
    /// other yet: routers send neither on (RFC 4291, 2.5.2 and 2.5.6).
    #[inline(always)]
    pub const fn stays_on_link(self) -> bool {
        let [first, second, ..] = self.high.to_ne_bytes();
        first == 0xfe && second & 0xc0 == 0x80 || self.high == 0 && self.low == 0
    }

    /// The address of the same family that stands for every one.
    #[inline(always)]
    pub const fn any(self) -> Self {
        if self.is_v4() {
            Self::ANY_V4
        } else {
            Self::ANY_V6
        }
    }

    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self {
            high: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            low: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    pub const fn octets(self) -> [u8; 16] {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
            (self.high.to_ne_bytes(), self.low.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::from_octets(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv6Addr};

    #[test]
    fn both_families_there_and_back() {
        for text in ["10.96.0.1", "0.0.0.0", "127.0.0.1", "fd00::1", "::", "::1"] {
            let ip: IpAddr = text.parse().unwrap();
            let address = Address::from(ip);
            assert_eq!(IpAddr::from(address), ip);
            assert_eq!(address.is_v4(), ip.is_ipv4());
            assert_eq!(address.is_loopback(), ip.is_loopback());
            assert_eq!(Address::v6_bits(address.bits()), address);
            assert_eq!(Address::from_words(address.words()), address);
            let any: IpAddr = if ip.is_ipv4() {
                "0.0.0.0".parse().unwrap()
            } else {
                "::".parse().unwrap()
            };
            assert_eq!(IpAddr::from(address.any()), any);
        }
    }

    #[test]
    fn what_routers_do_not_send_on() {
        for (text, stays) in [
            ("::", true),
            ("fe80::", true),
            ("febf:ffff::1", true),
            ("fec0::1", false),
            ("fd00::1", false),
            ("::1", false),
            ("ff02::1", false),
            ("0.0.0.0", false),
            ("169.254.0.1", false),
        ] {
            let address = Address::from(text.parse::<IpAddr>().unwrap());
            assert_eq!(address.stays_on_link(), stays, "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_is_mapped() {
        let octets = Address::v4([192, 0, 2, 1]).octets();
        assert_eq!(
            Ipv6Addr::from(octets),
            "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap()
        );
        assert_eq!(
            Address::v4([192, 0, 2, 1]).to_v4_bits(),
            Some(u32::from_ne_bytes([192, 0, 2, 1]))
        );
    }
}

//! What a closed port answers, decided without a packet.

use crate::Address;

/// A TCP header without options, in words as they stand in a packet.
pub type TcpHeader = [u32; 5];

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The reset that answers a segment to a port nobody listens at (RFC 9293,
/// 3.10.7.1), its checksum still zero; None for a reset, which is never
/// answered. `len` is the segment's length from its header on.
#[inline(always)]
pub const fn reset(segment: TcpHeader, len: u32) -> Option<TcpHeader> {
    let [ports, sequence, acknowledgement, control, _] = segment;
    let [offset, flags, _, _] = control.to_ne_bytes();
    if flags & RST != 0 {
        return None;
    }
    let (sequence, acknowledgement, flags) = if flags & ACK != 0 {
        (acknowledgement, 0, RST)
    } else {
        let data = len.saturating_sub((offset >> 4) as u32 * 4);
        let controls = (flags & SYN != 0) as u32 + (flags & FIN != 0) as u32;
        let end = u32::from_be(sequence)
            .wrapping_add(data)
            .wrapping_add(controls);
        (0, end.to_be(), RST | ACK)
    };
    let words = size_of::<TcpHeader>() as u8 / 4;
    Some([
        ports.rotate_left(16),
        sequence,
        acknowledgement,
        u32::from_ne_bytes([words << 4, flags, 0, 0]),
        0,
    ])
}

/// How many bytes of a refused datagram its ICMP error quotes: of what there
/// is, as much as fits into 576 bytes (RFC 1812, 4.3.2.3) or the smallest MTU
/// of IPv6 (RFC 4443, 2.4 c).
#[inline(always)]
pub const fn quoted(v4: bool, len: u32) -> u32 {
    let most = if v4 { 576 - 20 - 8 } else { 1280 - 40 - 8 };
    if len < most { len } else { most }
}

/// Whether a packet between these two is one to answer: both are one host's
/// (RFC 1122, 3.2.2; RFC 4443, 2.4 e). The broadcast addresses of networks are
/// known by the frame they come in.
#[inline(always)]
pub const fn answerable(source: Address, destination: Address) -> bool {
    one_host(source) && one_host(destination)
}

#[inline(always)]
const fn one_host(address: Address) -> bool {
    match address.to_v4_bits() {
        // Networks 0 and 127, multicast, class E with 255.255.255.255.
        Some(bits) => {
            let first = bits.to_ne_bytes()[0];
            first != 0 && first != 127 && first < 224
        }
        None => {
            let [high, low] = address.words();
            (high | low) != 0 && high as u8 != 0xff && !address.is_loopback()
        }
    }
}

/// Holds what each processor sends to a rate: one in `INTERVAL` nanoseconds,
/// and 100 at once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace<const INTERVAL: u64> {
    /// When those sent so far would all be due, had they been paced.
    due: u64,
}

/// ICMP errors have a limit (RFC 4443, 2.4 f): 1,000 a second.
pub type ErrorPace = Pace<1_000_000>;
/// Events of drops and refusals: 100 a second tell what is wrong.
pub type EventPace = Pace<10_000_000>;
/// Events of beginnings, while somebody follows: 2,000 a second.
pub type BeginningPace = Pace<500_000>;

impl<const INTERVAL: u64> Pace<INTERVAL> {
    const AHEAD: u64 = 99 * INTERVAL;

    /// Whether one may be sent now, in nanoseconds of any steady clock.
    #[inline(always)]
    pub const fn take(&mut self, now: u64) -> bool {
        if self.due > now + Self::AHEAD {
            return false;
        }
        let from = if self.due > now { self.due } else { now };
        self.due = from + INTERVAL;
        true
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn segment(sequence: u32, acknowledgement: u32, words: u8, flags: u8) -> TcpHeader {
        [
            u32::from_ne_bytes([0x9c, 0x40, 0x00, 0x50]),
            sequence.to_be(),
            acknowledgement.to_be(),
            u32::from_ne_bytes([words << 4, flags, 0xfa, 0xf0]),
            u32::from_ne_bytes([0x12, 0x34, 0, 0]),
        ]
    }

    #[test]
    fn resets_carry_the_numbers_of_rfc_9293() {
        const PSH: u8 = 8;
        for (what, segment, len, expected) in [
            (
                "a connect",
                segment(7, 0, 10, SYN),
                40,
                Some((0, 8, RST | ACK)),
            ),
            (
                "with data",
                segment(7, 0, 10, SYN),
                50,
                Some((0, 18, RST | ACK)),
            ),
            (
                "the last number",
                segment(u32::MAX, 0, 5, SYN),
                20,
                Some((0, 0, RST | ACK)),
            ),
            (
                "neither SYN nor ACK",
                segment(7, 0, 5, PSH),
                25,
                Some((0, 12, RST | ACK)),
            ),
            (
                "FIN alone",
                segment(7, 0, 5, FIN),
                20,
                Some((0, 8, RST | ACK)),
            ),
            ("data", segment(7, 9, 8, ACK | PSH), 1000, Some((9, 0, RST))),
            (
                "SYN and ACK",
                segment(7, 9, 5, SYN | ACK),
                20,
                Some((9, 0, RST)),
            ),
            (
                "header past the end",
                segment(7, 0, 15, SYN),
                20,
                Some((0, 8, RST | ACK)),
            ),
            ("a reset", segment(7, 9, 5, RST), 20, None),
            ("a reset with ACK", segment(7, 9, 5, RST | ACK), 20, None),
        ] {
            let expected = expected.map(|(sequence, acknowledgement, flags): (u32, u32, u8)| {
                [
                    u32::from_ne_bytes([0x00, 0x50, 0x9c, 0x40]),
                    sequence.to_be(),
                    acknowledgement.to_be(),
                    u32::from_ne_bytes([0x50, flags, 0, 0]),
                    0,
                ]
            });
            assert_eq!(reset(segment, len), expected, "{what}");
        }
    }

    #[test]
    fn errors_quote_what_fits() {
        for (v4, len, quote) in [
            (true, 28, 28),
            (true, 548, 548),
            (true, 549, 548),
            (true, 65_535, 548),
            (false, 48, 48),
            (false, 1232, 1232),
            (false, 1233, 1232),
        ] {
            assert_eq!(quoted(v4, len), quote, "{v4} {len}");
        }
    }

    #[test]
    fn only_hosts_are_answered() {
        let host = |text: &str| one_host(text.parse::<IpAddr>().unwrap().into());
        for one in [
            "10.0.0.1",
            "1.0.0.0",
            "223.255.255.255",
            "fd00::1",
            "2001:db8::",
            "fe80::1",
        ] {
            assert!(host(one), "{one}");
        }
        for none in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
        ] {
            assert!(!host(none), "{none}");
        }
        let (one, none) = (Address::v4([10, 0, 0, 1]), Address::v4([224, 0, 0, 1]));
        assert!(answerable(one, one));
        assert!(!answerable(none, one) && !answerable(one, none));
    }

    #[test]
    fn errors_keep_a_pace() {
        const INTERVAL: u64 = 1_000_000;
        let mut pace = ErrorPace::default();
        let now = 5_000_000_000;
        assert_eq!((0..200).filter(|_| pace.take(now)).count(), 100);
        assert!(!pace.take(now + INTERVAL - 1));
        assert!(pace.take(now + INTERVAL));
        assert!(!pace.take(now + INTERVAL));
        let second = now + 1_000_000_000;
        assert_eq!((0..2000).filter(|_| pace.take(second)).count(), 100);
    }
}

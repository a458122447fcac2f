//! The outer header of a packet that goes as it came to the node of the pod
//! that answers it: IP in IP (RFC 2003, RFC 2473). Between nodes of one cluster
//! only; what is Vetch's own is where it says the pod's port.

use crate::{
    Address,
    ip_header::{HOPS, IpHeader},
};

/// By the family, which inner and outer packet share.
#[inline(always)]
pub const fn protocol(v4: bool) -> u8 {
    if v4 { 4 } else { 41 }
}

/// The first words of an IP header.
pub type Head = [u32; 3];

/// The hops of a packet whose identification says no port. The kernel counts
/// it up from segment to segment where it cuts a packet, and no path in a
/// cluster has as many hops as the two differ by.
const HOPS_WITHOUT_PORT: u8 = 2 * HOPS;

/// What goes before a packet that begins with `inner`. `in_segments` says that
/// the packet is still to be cut into some.
#[inline(always)]
pub fn outer(
    v4: bool,
    inner: Head,
    from: Address,
    to: Address,
    port: [u8; 2],
    in_segments: bool,
) -> IpHeader {
    let [first, second, _] = inner;
    let [version_class, class_label, high, low] = first.to_ne_bytes();
    // Those that are too long for the field are to be cut, and then it is
    // written anew.
    let (class, len) = if v4 {
        (class_label, u16::from_be_bytes([high, low]))
    } else {
        let [high, low, _, _] = second.to_ne_bytes();
        let len = u16::from_be_bytes([high, low]).wrapping_add(IpHeader::V6_LEN as u16);
        (version_class << 4 | class_label >> 4, len)
    };
    IpHeader {
        from,
        to,
        protocol: protocol(v4),
        len,
        hops: if v4 && in_segments {
            HOPS_WITHOUT_PORT
        } else {
            HOPS
        },
        // Routers on the way are not told that the ends know of congestion
        // (RFC 6040, 4.3): nobody would tell these.
        class: class & !3,
        label: port,
    }
}

/// The port that an outer header says, if it does.
#[inline(always)]
pub const fn port(v4: bool, outer: Head) -> Option<[u8; 2]> {
    let [first, second, third] = outer;
    if v4 {
        let [high, low, _, _] = second.to_ne_bytes();
        let [hops, ..] = third.to_ne_bytes();
        if hops > HOPS {
            return None;
        }
        return Some([high, low]);
    }
    let [_, _, high, low] = first.to_ne_bytes();
    Some([high, low])
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    const PORT: [u8; 2] = [0x1f, 0x90];

    fn v4(in_segments: bool, class: u8, len: u16) -> IpHeader {
        let [high, low] = len.to_be_bytes();
        let inner = [u32::from_ne_bytes([0x45, class, high, low]), 0, 0];
        let (from, to) = (address("192.168.0.1"), address("10.2.0.7"));
        outer(true, inner, from, to, PORT, in_segments)
    }

    fn v6(in_segments: bool, class: u8, len: u16) -> IpHeader {
        let [high, low] = len.to_be_bytes();
        let inner = [
            u32::from_ne_bytes([0x60 | class >> 4, class << 4, 0x12, 0x34]),
            u32::from_ne_bytes([high, low, 6, 60]),
            0,
        ];
        let (from, to) = (address("fd00:ff::1"), address("fd01::7"));
        outer(false, inner, from, to, PORT, in_segments)
    }

    #[test]
    fn it_is_as_long_as_what_it_is_before() {
        for len in [40, 1480, u16::MAX] {
            assert_eq!(v4(false, 0, len).len, len);
        }
        assert_eq!(v6(false, 0, 20).len, 60);
    }

    #[test]
    fn it_is_of_the_class_without_congestion() {
        for (inner, outer) in [(0, 0), (0xb8, 0xb8), (0xbb, 0xb8), (1, 0)] {
            assert_eq!(v4(false, inner, 40).class, outer);
            assert_eq!(v6(false, inner, 40).class, outer);
        }
    }

    #[test]
    fn the_port_is_read_where_it_is_written() {
        for (in_segments, hops_on_the_way, read) in [
            (false, 0, Some(PORT)),
            (false, 63, Some(PORT)),
            (true, 0, None),
            (true, 63, None),
        ] {
            let header = v4(in_segments, 0, 40);
            let [first, second, third, ..] = header.v4();
            let [hops, rest @ ..] = third.to_ne_bytes();
            let [a, b, c] = rest;
            let third = u32::from_ne_bytes([hops - hops_on_the_way, a, b, c]);
            let case = (in_segments, hops_on_the_way);
            assert_eq!(port(true, [first, second, third]), read, "{case:?}");
            let [first, second, third, ..] = v6(in_segments, 0, 40).v6();
            assert_eq!(port(false, [first, second, third]), Some(PORT), "{case:?}");
        }
    }
}

//! Asking whether an address is taken, by a host that has none there, and who
//! says that it is. For the daemon: no program asks.

use super::{Arp, HOP_LIMIT, ICMPV6, Mac, Solicitation};
use crate::{Address, Checksum};

impl Arp {
    /// From no address, so that nobody's table learns it (RFC 5227, 2.1.1).
    pub fn probe(mac: Mac, address: [u8; 4]) -> Self {
        Self {
            sender: [0; 4],
            ..Self::announcement(mac, address)
        }
    }

    /// Whose address a packet says is its sender's: an answer, or a question from
    /// one (RFC 5227, 2.1.1).
    pub fn claim(packet: &[u8]) -> Option<([u8; 4], Mac)> {
        let bytes: [u8; Self::LEN] = packet.get(..Self::LEN)?.try_into().ok()?;
        let [
            k0,
            k1,
            k2,
            k3,
            k4,
            k5,
            o,
            operation,
            a,
            b,
            c,
            d,
            e,
            f,
            i,
            p,
            v,
            four,
            ..,
        ] = bytes;
        let kinds = [k0, k1, k2, k3, k4, k5];
        let sender = [i, p, v, four];
        let known = kinds == Self::IPV4_ON_ETHERNET
            && [Self::REQUEST, Self::REPLY].contains(&[o, operation])
            && sender != [0; 4];
        known.then_some((sender, [a, b, c, d, e, f]))
    }
}

const LEN: usize = 40 + 24;

/// The IPv6 packet that asks for `target` as duplicate address detection does
/// (RFC 4862, 5.4.2): from the unspecified address to the `group` of the target.
pub fn neighbour_probe(target: Address, group: Address) -> [u8; LEN] {
    const MESSAGE: u16 = (LEN - 40) as u16;
    let head = u32::from_ne_bytes([Solicitation::TYPE, 0, 0, 0]);
    let checksum = Checksum::default()
        .pseudo_header(Address::ANY_V6, group, ICMPV6, MESSAGE)
        .word(head)
        .words(&target.bits())
        .finish();
    let [len_high, len_low] = MESSAGE.to_be_bytes();
    let mut words = [0; LEN / 4];
    words[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
    words[1] = u32::from_ne_bytes([len_high, len_low, ICMPV6, HOP_LIMIT]);
    words[6..10].copy_from_slice(&group.bits());
    words[10] = head | (checksum as u32) << 16;
    words[12..16].copy_from_slice(&target.bits());
    let mut bytes = [0; LEN];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Whose address an ICMPv6 message says is at which host: a neighbour
/// advertisement (RFC 4861, 4.4). Who answers a probe says its hardware address.
pub fn neighbour_claim(message: &[u8]) -> Option<([u8; 16], Mac)> {
    const ADVERTISEMENT: [u8; 2] = [136, 0];
    /// Target link-layer address, of one unit of 8 bytes.
    const OPTION: [u8; 2] = [2, 1];
    let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
    if message[..2] != ADVERTISEMENT {
        return None;
    }
    let mut options = message.get(24..)?;
    while let [kind, units, rest @ ..] = options {
        let len = usize::from(*units) * 8;
        if [*kind, *units] == OPTION {
            let mac = rest.get(..6)?.try_into().ok()?;
            return Some((target, mac));
        }
        // One of no length is not one (RFC 4861, 4.6).
        options = options.get(len..).filter(|_| len > 0)?;
    }
    None
}

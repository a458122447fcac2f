//! ARP and neighbour discovery for addresses that a node announces: the
//! programs answer with these packets, the daemon sends them unasked.

use crate::{Address, Checksum};

mod probe;

pub use probe::{neighbour_claim, neighbour_probe};

pub type Mac = [u8; 6];

/// An uplink of the node, by its ifindex in the map `UPLINKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    pub mac: Mac,
    /// 0: not known.
    pub mtu: u16,
}

const _: () = assert!(size_of::<Uplink>() == 8);

impl Uplink {
    pub const fn new(mac: Mac) -> Self {
        Self { mac, mtu: 0 }
    }

    pub const fn with_mtu(self, mtu: u32) -> Self {
        let mtu = if mtu > u16::MAX as u32 {
            u16::MAX
        } else {
            mtu as u16
        };
        Self { mtu, ..self }
    }

    /// Whether an IP packet of this length goes out whole.
    #[inline(always)]
    pub const fn fits(&self, length: u32) -> bool {
        self.mtu == 0 || length <= self.mtu as u32
    }
}

/// ARP for IPv4 over Ethernet (RFC 826).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Kinds and lengths of the two addresses.
    kinds: [u8; 6],
    operation: [u8; 2],
    pub sender_mac: Mac,
    sender: [u8; 4],
    target_mac: Mac,
    target: [u8; 4],
}

const _: () = assert!(size_of::<Arp>() == Arp::LEN && align_of::<Arp>() == 1);

impl Arp {
    pub const LEN: usize = 28;
    const IPV4_ON_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];
    const REQUEST: [u8; 2] = [0, 1];
    const REPLY: [u8; 2] = [0, 2];

    /// The address somebody asks for. A request for the sender's own address
    /// announces it and asks nothing.
    #[inline(always)]
    pub fn asked(&self) -> Option<Address> {
        (self.kinds == Self::IPV4_ON_ETHERNET
            && self.operation == Self::REQUEST
            && self.sender != self.target
            && self.sender_mac[0] & 1 == 0)
            .then(|| Address::v4(self.target))
    }

    /// What the asker is told: the address is at `mac`.
    #[inline(always)]
    pub fn answer(&self, mac: Mac) -> Self {
        Self {
            kinds: self.kinds,
            operation: Self::REPLY,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Says unasked that an address is at `mac` (RFC 5227, 2.3).
    pub fn announcement(mac: Mac, address: [u8; 4]) -> Self {
        Self {
            kinds: Self::IPV4_ON_ETHERNET,
            operation: Self::REQUEST,
            sender_mac: mac,
            sender: address,
            target_mac: [0; 6],
            target: address,
        }
    }

    pub fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let parts: [&[u8]; 6] = [
            &self.kinds,
            &self.operation,
            &self.sender_mac,
            &self.sender,
            &self.target_mac,
            &self.target,
        ];
        let mut rest = &mut bytes[..];
        for part in parts {
            let (head, tail) = rest.split_at_mut(part.len());
            head.copy_from_slice(part);
            rest = tail;
        }
        bytes
    }
}

const ICMPV6: u8 = 58;
/// What came from another link has less (RFC 4861, 7.1.1).
const HOP_LIMIT: u8 = 255;

/// A neighbour solicitation (RFC 4861, 4.3) with its IPv6 header: the words
/// that stand before its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    pub target: Address,
    pub source: Address,
    pub destination: Address,
    /// Of the ICMPv6 message with its options.
    pub len: u16,
}

impl Solicitation {
    const TYPE: u8 = 135;
    const WORDS: usize = 10 + 6;

    /// None for anything else, and for what RFC 4861, 7.1.1 has a host
    /// discard; the checksum is left to the caller.
    #[inline(always)]
    pub fn read(words: &[u32; Self::WORDS]) -> Option<Self> {
        let [len_high, len_low, next, hops] = words[1].to_ne_bytes();
        let [kind, code, _, _] = words[10].to_ne_bytes();
        let len = u16::from_be_bytes([len_high, len_low]);
        if words[0].to_ne_bytes()[0] >> 4 != 6
            || next != ICMPV6
            || hops != HOP_LIMIT
            || kind != Self::TYPE
            || code != 0
            || len < 24
            || is_multicast(words[12])
        {
            return None;
        }
        let read = Self {
            source: address(words, 2),
            destination: address(words, 6),
            target: address(words, 12),
            len,
        };
        (!read.is_probe() || is_multicast(words[6])).then_some(read)
    }

    /// Somebody wants the address for itself and looks whether it is taken.
    #[inline(always)]
    pub fn is_probe(&self) -> bool {
        self.source == Address::ANY_V6
    }
}

/// ff02::1, and the Ethernet address it is sent to (RFC 2464, 7).
pub const ALL_NODES: Address = Address::v6_bits([0x02ff, 0, 0, 0x0100_0000]);
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// A neighbour advertisement (RFC 4861, 4.4) with its IPv6 header: `target` is
/// at `mac`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement([u32; Self::WORDS]);

impl Advertisement {
    const TYPE: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const SOLICITED: u8 = 0x40;
    const WORDS: usize = 10 + 6 + 2;
    pub const LEN: usize = Self::WORDS * 4;

    /// To whoever asked; to all who sees that its address is taken.
    #[inline(always)]
    pub fn answer(asked: &Solicitation, mac: Mac) -> Self {
        if asked.is_probe() {
            Self::announcement(mac, asked.target)
        } else {
            Self::new(
                mac,
                asked.target,
                asked.source,
                Self::OVERRIDE | Self::SOLICITED,
            )
        }
    }

    /// To all, unasked (RFC 4861, 7.2.6).
    #[inline(always)]
    pub fn announcement(mac: Mac, target: Address) -> Self {
        Self::new(mac, target, ALL_NODES, Self::OVERRIDE)
    }

    #[inline(always)]
    fn new(mac: Mac, target: Address, to: Address, flags: u8) -> Self {
        const MESSAGE: u16 = (Advertisement::LEN - 40) as u16;
        /// Target link-layer address, of one unit of 8 bytes.
        const OPTION: [u8; 2] = [2, 1];
        let [a, b, c, d, e, f] = mac;
        let [target_a, target_b, target_c, target_d] = target.bits();
        let flags = u32::from_ne_bytes([flags, 0, 0, 0]);
        let option = [
            u32::from_ne_bytes([OPTION[0], OPTION[1], a, b]),
            u32::from_ne_bytes([c, d, e, f]),
        ];
        let head = u32::from_ne_bytes([Self::TYPE, 0, 0, 0]);
        let checksum = Checksum::default()
            .pseudo_header(target, to, ICMPV6, MESSAGE)
            .word(head)
            .word(flags)
            .words(&target.bits())
            .words(&option)
            .finish();
        let [to_a, to_b, to_c, to_d] = to.bits();
        let [len_high, len_low] = MESSAGE.to_be_bytes();
        Self([
            u32::from_ne_bytes([0x60, 0, 0, 0]),
            u32::from_ne_bytes([len_high, len_low, ICMPV6, HOP_LIMIT]),
            target_a,
            target_b,
            target_c,
            target_d,
            to_a,
            to_b,
            to_c,
            to_d,
            head | (checksum as u32) << 16,
            flags,
            target_a,
            target_b,
            target_c,
            target_d,
            option[0],
            option[1],
        ])
    }

    #[inline(always)]
    pub const fn words(&self) -> &[u32; Self::WORDS] {
        &self.0
    }

    pub fn bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[inline(always)]
fn address(words: &[u32; Solicitation::WORDS], at: usize) -> Address {
    Address::v6_bits([words[at], words[at + 1], words[at + 2], words[at + 3]])
}

#[inline(always)]
const fn is_multicast(first: u32) -> bool {
    first as u8 == 0xff
}

#[cfg(test)]
mod tests;

//! NetworkPolicies as the programs know them: who a peer is, what a set of
//! rules lets pass, and which conversations it has let pass.
//!
//! A pod that policies select has a number of a set of rules for each direction
//! ([`Pod`](crate::Pod)). Rules name peers by small numbers, which any number of
//! addresses share. What a rule does not name is not let pass: there are no
//! rules that deny.
//!
//! Sets are of two kinds. In a plain one rules of anybody, of the peer's identity
//! and of its block all count. In an exact one only those of the most specific of
//! these that the peer has do, and anybody is everybody else: so that a set can
//! let all pass but some, as AdminNetworkPolicies do.

mod conversation;

pub use conversation::{Conversation, End, Standing};

use crate::{Address, Protocol};

/// Which of a pod's rules: for what comes to it, or for what it sends. The
/// names of `policyTypes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    Ingress,
    Egress,
}

/// Who a rule is about: anybody, pods that no selector in use tells apart, or
/// addresses that no `ipBlock` in use does.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(u32);

impl Peer {
    pub const ANY: Self = Self(0);
    const BLOCK: u32 = 1 << 31;

    /// Of a value of `IDENTITIES`; 0 is nobody's.
    #[inline(always)]
    pub const fn identity(number: u32) -> Self {
        Self(number)
    }

    /// Of a value of `BLOCKS`.
    #[inline(always)]
    pub const fn block(number: u32) -> Self {
        Self(number | Self::BLOCK)
    }

    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The value of `BLOCKS`, if it is one's.
    pub const fn as_block(self) -> Option<u32> {
        if self.0 & Self::BLOCK != 0 {
            Some(self.0 & !Self::BLOCK)
        } else {
            None
        }
    }
}

/// What a set lets pass to or from a peer: the key of a longest-prefix match,
/// of all protocols, of those that begin with some bits, of one, of a range of its
/// ports whose size is a power of two, or of one port. Whatever matches lets pass.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    set: u32,
    peer: u32,
    protocol: u8,
    /// Of the conversation's destination, in network order.
    port: [u8; 2],
    pad: u8,
}

const _: () = assert!(size_of::<Rule>() == 12);

impl Rule {
    /// Prefix lengths: of all protocols, of one with all its ports, of one port.
    pub const ALL: u32 = 64;
    pub const PROTOCOL: u32 = Self::ALL + 8;
    pub const PORT: u32 = Self::PROTOCOL + 16;

    #[inline(always)]
    pub const fn new(set: RuleSet, peer: Peer, protocol: u8, port: [u8; 2]) -> Self {
        Self {
            set: set.0,
            peer: peer.0,
            protocol,
            port,
            pad: 0,
        }
    }

    pub const fn set(&self) -> RuleSet {
        RuleSet(self.set)
    }

    pub const fn peer(&self) -> Peer {
        Peer(self.peer)
    }

    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    pub const fn port(&self) -> u16 {
        u16::from_be_bytes(self.port)
    }
}

/// A set of rules for one direction.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleSet(u32);

impl RuleSet {
    const EGRESS: u32 = 1 << 16;
    /// The bit of a number whose set is exact.
    pub const EXACT: u16 = 1 << 15;

    /// None for number 0, which pods have that may do as they like.
    #[inline(always)]
    pub const fn new(of: PolicyType, number: u16) -> Option<Self> {
        match (of, number) {
            (_, 0) => None,
            (PolicyType::Ingress, number) => Some(Self(number as u32)),
            (PolicyType::Egress, number) => Some(Self(number as u32 | Self::EGRESS)),
        }
    }

    pub const fn of(self) -> PolicyType {
        if self.0 & Self::EGRESS == 0 {
            PolicyType::Ingress
        } else {
            PolicyType::Egress
        }
    }

    pub const fn number(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    pub const fn is_exact(self) -> bool {
        self.0 & Self::EXACT as u32 != 0
    }
}

/// The maps that have the rules.
pub trait Lookup {
    /// 0 for an address that is no pod's, or of one that no selector in use matches.
    fn identity(&self, address: &Address) -> u32;
    /// By the longest prefix; 0 for an address in no block.
    fn block(&self, address: &Address) -> u32;
    /// By the longest prefix.
    fn has(&self, rule: &Rule) -> bool;
}

/// Whether a set lets a conversation with this peer, to this port, begin. The
/// port of what has none is 0, which no rule names.
#[inline(always)]
pub fn permits(
    maps: &impl Lookup,
    set: RuleSet,
    peer: &Address,
    protocol: u8,
    port: [u8; 2],
) -> bool {
    if !set.is_exact() && maps.has(&Rule::new(set, Peer::ANY, protocol, port)) {
        return true;
    }
    let identity = maps.identity(peer);
    if identity != 0 {
        let lets = maps.has(&Rule::new(set, Peer::identity(identity), protocol, port));
        if lets || set.is_exact() {
            return lets;
        }
    }
    let block = maps.block(peer);
    // A plain set says again what it said of anybody: a lookup of the refused, rather
    // than a branch of all.
    let rest = if block != 0 {
        Peer::block(block)
    } else {
        Peer::ANY
    };
    maps.has(&Rule::new(set, rest, protocol, port))
}

/// Whether the packet can only be the first of a conversation, and never an
/// answer: `first` is TCP's flags, or the type of an ICMP message.
#[inline(always)]
pub const fn opens(protocol: u8, first: u8) -> bool {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const ICMP: u8 = 1;
    const ECHO: u8 = 8;
    const ICMPV6: u8 = 58;
    const ECHO_V6: u8 = 128;
    const TCP: u8 = Protocol::Tcp as u8;
    match protocol {
        TCP => first & (SYN | ACK) == SYN,
        ICMP => first == ECHO,
        ICMPV6 => first == ECHO_V6,
        _ => false,
    }
}

/// Whether a pod may have begun a connection from here, rather than listen: the default of
/// `net.ipv4.ip_local_port_range` begins here.
#[inline(always)]
pub const fn is_ephemeral(port: [u8; 2]) -> bool {
    u16::from_be_bytes(port) >= 32_768
}

#[cfg(test)]
mod tests;

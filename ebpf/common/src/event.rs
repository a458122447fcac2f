//! What the programs tell of single calls and packets, through the ring
//! buffer `EVENTS`.

use crate::{Address, Endpoint, Reason, names::names};

/// One record. What is not known is zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `CLOCK_MONOTONIC`.
    pub time: u64,
    pub src: Address,
    /// As it was dialled.
    pub dst: Address,
    /// `SO_NETNS_COOKIE` of the caller, of calls: a socket that dials has no
    /// address yet.
    pub netns: u64,
    pub ifindex: u32,
    /// The service-port's number, or [`Event::NO_SERVICE`].
    pub service: u32,
    pub sport: [u8; 2],
    pub dport: [u8; 2],
    /// An [`EventKind`], [`Reason`] and [`Site`] by their numbers.
    pub kind: u8,
    pub reason: u8,
    pub site: u8,
    pub protocol: u8,
}

const _: () = assert!(size_of::<Event>() == 64);

names! {
    /// What a record tells of. A reader leaves out those it does not know.
    #[repr(u8)]
    EventKind {
        /// A packet that was dropped without words.
        Drop = 1 "drop",
        /// A call or packet that was refused: ECONNREFUSED, a reset, an ICMP
        /// error, as far as one was due.
        Refusal = 2 "refusal",
        /// A [`Beginning`](crate::Beginning): a call, or a conversation's first packet,
        /// was given a backend.
        Translate = 3 "translate",
        /// A [`Beginning`](crate::Beginning): a pod's conversation with a host outside
        /// the cluster was given the node's address.
        Masquerade = 4 "masquerade",
        /// A [`Beginning`](crate::Beginning): NetworkPolicies let a conversation pass.
        Allow = 5 "allow",
    }
}

names! {
    /// Where the program is that tells it.
    #[repr(u8)]
    Site {
        Connect = 0 "connect",
        Sendmsg = 1 "sendmsg",
        FromPod = 2 "from_pod",
        ToPod = 3 "to_pod",
        FromNet = 4 "from_net",
        ToNet = 5 "to_net",
        FromWire = 6 "from_wire",
    }
}

impl Event {
    pub const NO_SERVICE: u32 = u32::MAX;
    /// Of what got through.
    pub const NO_REASON: u8 = u8::MAX;
    /// In words of 8 bytes, as they stand in the buffer.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// Without what only the hook knows.
    #[inline(always)]
    pub const fn new(kind: EventKind, reason: Reason, site: Site, time: u64) -> Self {
        Self {
            time,
            src: Address::ANY_V6,
            dst: Address::ANY_V6,
            netns: 0,
            ifindex: 0,
            service: Self::NO_SERVICE,
            sport: [0; 2],
            dport: [0; 2],
            kind: kind as u8,
            reason: reason as u8,
            site: site as u8,
            protocol: 0,
        }
    }

    /// Of what got through, without what only the hook knows.
    #[inline(always)]
    pub const fn begun(kind: EventKind, site: Site, time: u64) -> Self {
        Self {
            reason: Self::NO_REASON,
            ..Self::new(kind, Reason::NoEndpoints, site, time)
        }
    }

    /// None of a number that is not known here, as a younger program's may be.
    pub fn kind(&self) -> Option<EventKind> {
        let is = |kind: &&EventKind| **kind as u8 == self.kind;
        EventKind::ALL.iter().find(is).copied()
    }

    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason)).copied()
    }

    pub fn site(&self) -> Option<Site> {
        Site::ALL.get(usize::from(self.site)).copied()
    }

    pub const fn source(&self) -> Endpoint {
        Endpoint::new(self.src, self.sport)
    }

    pub const fn destination(&self) -> Endpoint {
        Endpoint::new(self.dst, self.dport)
    }

    /// As it is read from the buffer.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [time, a, b, c, d, netns, numbers, rest] = words;
        let [s0, s1, d0, d1, kind, reason, site, protocol] = rest.to_ne_bytes();
        let [i0, i1, i2, i3, n0, n1, n2, n3] = numbers.to_ne_bytes();
        Self {
            time,
            src: Address::from_words([a, b]),
            dst: Address::from_words([c, d]),
            netns,
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            service: u32::from_ne_bytes([n0, n1, n2, n3]),
            sport: [s0, s1],
            dport: [d0, d1],
            kind,
            reason,
            site,
            protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices() {
        for (index, site) in Site::ALL.iter().enumerate() {
            assert_eq!(*site as usize, index);
        }
    }

    #[test]
    fn an_event_is_its_words() {
        let event = Event {
            src: Address::v4([10, 0, 0, 1]),
            dst: Address::v6_bits([1, 2, 3, 4]),
            netns: 7,
            ifindex: 8,
            service: 9,
            sport: [1, 2],
            dport: [3, 4],
            protocol: 17,
            ..Event::new(EventKind::Refusal, Reason::UnknownPort, Site::FromNet, 5)
        };
        // As the kernel copies it.
        let [a, b] = event.src.words();
        let [c, d] = event.dst.words();
        let numbers = u64::from_ne_bytes([8, 0, 0, 0, 9, 0, 0, 0]);
        let rest = u64::from_ne_bytes([1, 2, 3, 4, 2, 2, 4, 17]);
        let read = Event::from_words([5, a, b, c, d, 7, numbers, rest]);
        assert_eq!(read, event);
        assert_eq!(event.kind(), Some(EventKind::Refusal));
        assert_eq!(event.reason(), Some(Reason::UnknownPort));
        assert_eq!(event.site(), Some(Site::FromNet));
        assert_eq!(core::mem::offset_of!(Event, sport), 56);
    }
}

//! What the programs remember of sockets, clients and backends.

use crate::{Address, Endpoint, Terms};

/// A socket and the backend it talks to; the value is the service's
/// [`Endpoint`]. Socket cookies are unique on the whole machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReverseKey {
    cookie: u64,
    backend: Endpoint,
    protocol: u32,
    pad: u32,
}

const _: () = assert!(size_of::<ReverseKey>() == 40);

impl ReverseKey {
    #[inline(always)]
    pub const fn new(cookie: u64, backend: Endpoint, protocol: u8) -> Self {
        Self {
            cookie,
            backend,
            protocol: protocol as u32,
            pad: 0,
        }
    }
}

/// A client of a service-port with session affinity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AffinityKey {
    client: Address,
    service: u32,
    pad: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 24);

impl AffinityKey {
    #[inline(always)]
    pub const fn new(client: Address, service: u32) -> Self {
        Self {
            client,
            service,
            pad: 0,
        }
    }

    #[inline(always)]
    pub const fn service(&self) -> u32 {
        self.service
    }
}

/// The backend such a client was sent to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    pub backend: Endpoint,
    /// Of the newest connection; `bpf_ktime_get_boot_ns`, because a client's
    /// time goes on while a machine sleeps.
    pub seen: u64,
}

const _: () = assert!(size_of::<Affinity>() == 32);

impl Affinity {
    #[inline(always)]
    pub const fn holds(&self, now: u64, seconds: u32) -> bool {
        now.wrapping_sub(self.seen) < seconds as u64 * 1_000_000_000
    }

    /// Whether nobody will be sent by it again, by the terms of its
    /// service-port now.
    #[inline(always)]
    pub const fn is_over(&self, now: u64, terms: Terms) -> bool {
        !terms.has(Terms::AFFINITY) || !self.holds(now, terms.affinity_seconds())
    }
}

/// An endpoint of a service-port that serves, ready or draining. Kept for the
/// service-ports whose clients ask whether their backend still serves: UDP,
/// and session affinity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    endpoint: Endpoint,
    service: u32,
    pad: u32,
}

const _: () = assert!(size_of::<BackendKey>() == 32);

impl BackendKey {
    /// New clients may be sent to it: it is in the cluster's list.
    pub const CLUSTER: u32 = 1;
    /// It is in the node's own list.
    pub const LOCAL: u32 = 2;

    #[inline(always)]
    pub const fn new(service: u32, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            service,
            pad: 0,
        }
    }

    pub const fn service(&self) -> u32 {
        self.service
    }

    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }
}

/// A service's range of client addresses, as the key of a longest-prefix
/// match: the prefix counts the service's number and the address.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    service: u32,
    client: [u8; 16],
}

const _: () = assert!(size_of::<SourceRange>() == 20);

impl SourceRange {
    /// The prefix length of one address of one service.
    pub const EXACT: u32 = Self::prefix_len(128);

    #[inline(always)]
    pub const fn new(service: u32, client: Address) -> Self {
        Self {
            service,
            client: client.octets(),
        }
    }

    /// `len` as of an IPv6 address; an IPv4 range's is 96 longer.
    pub const fn prefix_len(len: u32) -> u32 {
        u32::BITS + len
    }

    pub const fn service(&self) -> u32 {
        self.service
    }

    pub const fn client(&self) -> Address {
        Address::from_octets(self.client)
    }
}

/// A pod of this node, found by its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// The node's side of the veth pair.
    pub ifindex: u32,
    pub flags: u32,
    /// The pod's side.
    pub mac: [u8; 6],
    /// The node's side.
    pub gateway_mac: [u8; 6],
    /// The set of rules for what comes to it, and for what it sends; 0 where no
    /// policy isolates it ([`RuleSet`](crate::RuleSet)).
    pub ingress: u16,
    pub egress: u16,
    /// Of the pod's network namespace: `SO_NETNS_COOKIE`.
    pub netns: u64,
}

const _: () = assert!(size_of::<Pod>() == 32);

impl Pod {
    /// Packets from and to it go by the node's stack: annotation
    /// `vetch.dev/redirect: "false"`.
    pub const BY_STACK: u32 = 1;
    /// Its TCP is balanced by the packet, not at `connect()`: annotation
    /// `vetch.dev/socket-balancing: "false"`, for meshes and virtual machines
    /// that need the service's address on the wire.
    pub const TCP_BY_PACKET: u32 = 2;
    /// Its UDP is balanced by the packet, so that a flow leaves a backend that
    /// is gone, connected sockets too. Every pod with a program at its link.
    pub const UDP_BY_PACKET: u32 = 4;
    /// There are policies, and whether one selects it is not known yet: nothing but
    /// its node gets through.
    pub const POLICY_PENDING: u32 = 8;
    /// What it receives is queued at the node's side of its link, so nothing goes
    /// past that: annotation `kubernetes.io/ingress-bandwidth`.
    pub const SHAPED: u32 = 16;

    /// Whether a policy has a say in its traffic.
    #[inline(always)]
    pub const fn is_held(&self) -> bool {
        self.ingress as u32 | self.egress as u32 | self.flags & Self::POLICY_PENDING != 0
    }
}

/// What became of a service-port's clients, by processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections and datagram flows sent to a backend.
    pub connections: u64,
    /// Refused or dropped for want of a backend.
    pub refused: u64,
    /// From clients to backends. Of a TCP connection balanced at the socket
    /// what the applications said, when it has ended; of what is balanced by
    /// the packet each IP packet, as it comes.
    pub bytes_in: u64,
    /// From backends to clients, likewise.
    pub bytes_out: u64,
}

const _: () = assert!(size_of::<Traffic>() == 32);

impl Traffic {
    /// What another processor counted.
    pub const fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.refused += other.refused;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// The live connections of a backend that were balanced at the socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub count: i64,
    /// When counting began, `CLOCK_MONOTONIC` in nanoseconds: a connection that
    /// was counted before is not taken off, so that nothing is below zero.
    pub epoch: u64,
}

const _: () = assert!(size_of::<Live>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_ends_with_its_time() {
        let affinity = Affinity {
            backend: Endpoint::default(),
            seen: 5_000_000_000,
        };
        assert!(affinity.holds(5_000_000_000, 1));
        assert!(affinity.holds(5_999_999_999, 1));
        assert!(!affinity.holds(6_000_000_000, 1));
        for (flags, seconds, over) in [
            (Terms::AFFINITY, 2, false),
            (Terms::AFFINITY, 1, true),
            (0, 2, true),
        ] {
            let terms = Terms::new(flags, seconds);
            assert_eq!(affinity.is_over(6_000_000_000, terms), over, "{terms:?}");
        }
    }
}

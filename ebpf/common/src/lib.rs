//! What the programs in the kernel and the node daemon share: keys and values
//! of the maps, and decisions that are tested outside the kernel.
//!
//! Addresses and ports are in network order, as they stand in a packet;
//! everything else is in the machine's order. All padding is explicit and
//! zero, for a hash map compares every byte of a key. What a change here does
//! to maps that are already pinned is [`LAYOUT`]'s business.

#![no_std]

#[cfg(test)]
extern crate std;

mod address;
mod beginning;
mod checksum;
mod choice;
mod connection;
mod device;
mod difference;
mod endpoint;
mod event;
mod flow;
mod fragment;
mod frontend;
mod ip_header;
mod latency;
mod memory;
mod names;
mod neighbour;
mod next_hop;
pub mod notes;
mod peer_pods;
pub mod policy;
mod reason;
mod refusal;
mod service;
mod slot;
mod source;
mod sweep;
pub mod tunnel;
#[cfg(feature = "user")]
mod user;

pub use address::Address;
pub use beginning::Beginning;
pub use checksum::Checksum;
pub use choice::{client_seed, one_of, second_is_idler, two_of};
pub use connection::{Connection, Ended, tcp};
pub use device::DeviceRequest;
pub use difference::Difference;
pub use endpoint::Endpoint;
pub use event::{Event, EventKind, Site};
pub use flow::{Direction, Fate, Flow, Phase, State, Tuple};
pub use fragment::{FragmentKey, FragmentPorts};
pub use frontend::{Frontend, FrontendKey, Protocol, UnknownProtocol, addresses};
pub use ip_header::{HOPS, IpHeader};
pub use latency::Latency;
pub use memory::{Affinity, AffinityKey, BackendKey, Live, Pod, ReverseKey, SourceRange, Traffic};
pub use neighbour::{
    ALL_NODES, ALL_NODES_MAC, Advertisement, Arp, Mac, Solicitation, Uplink, neighbour_claim,
    neighbour_probe,
};
pub use next_hop::NextHop;
pub use peer_pods::PeerPods;
pub use policy::{Conversation, Peer, PolicyType, Rule, RuleSet};
pub use reason::Reason;
pub use refusal::{BeginningPace, ErrorPace, EventPace, TcpHeader, answerable, quoted, reset};
pub use service::{From, List, Service, ServiceWord, Terms};
pub use slot::Slot;
pub use source::Sources;
pub use sweep::Sweep;

/// Names of the maps, as the programs declare them.
pub mod maps {
    pub const FRONTENDS: &str = "FRONTENDS";
    pub const ADDRESSES: &str = "ADDRESSES";
    pub const SERVICES: &str = "SERVICES";
    pub const SLOTS: &str = "SLOTS";
    pub const BACKENDS: &str = "BACKENDS";
    pub const SOURCE_RANGES: &str = "SOURCE_RANGES";
    pub const REVERSE: &str = "REVERSE";
    pub const AFFINITY: &str = "AFFINITY";
    pub const PODS: &str = "PODS";
    pub const NETNS_FLAGS: &str = "NETNS_FLAGS";
    pub const FLOWS: &str = "FLOWS";
    pub const FRAGMENTS: &str = "FRAGMENTS";
    pub const REASONS: &str = "REASONS";
    pub const EVENTS: &str = "EVENTS";
    pub const EVENTS_MISSED: &str = "EVENTS_MISSED";
    pub const SWEPT: &str = "SWEPT";
    pub const TRAFFIC: &str = "TRAFFIC";
    pub const UPLINKS: &str = "UPLINKS";
    pub const PEER_PODS: &str = "PEER_PODS";
    pub const NON_MASQUERADE: &str = "NON_MASQUERADE";
    pub const SOURCES: &str = "SOURCES";
    /// Of one load of the programs only: not pinned.
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    pub const CONNECTIONS: &str = "CONNECTIONS";
    pub const LATENCIES: &str = "LATENCIES";
    pub const LIVE_SOCKETS: &str = "LIVE_SOCKETS";
    pub const LIVE_FLOWS: &str = "LIVE_FLOWS";
    pub const POLICIES: &str = "POLICIES";
    pub const IDENTITIES: &str = "IDENTITIES";
    pub const BLOCKS: &str = "BLOCKS";
    pub const RULES: &str = "RULES";
    pub const CONVERSATIONS: &str = "CONVERSATIONS";
    pub const NOTES: &str = "NOTES";
    pub const BEGINNINGS: &str = "BEGINNINGS";
    pub const BEGINNINGS_MISSED: &str = "BEGINNINGS_MISSED";
}

/// Names of the programs' read-only variables, set when they are loaded.
pub mod variables {
    /// `SO_NETNS_COOKIE` of the node's network namespace, u64.
    pub const NODE_NETNS: &str = "NODE_NETNS";
    /// The node's addresses, in network order: `[u32; 1]` and `[u32; 4]`, zero without one.
    pub const NODE_V4: &str = "NODE_V4";
    pub const NODE_V6: &str = "NODE_V6";
    /// The ifindex of the node's uplink, u32, if it has one only and every other
    /// node is behind it; 0 leaves packets for other nodes to the stack.
    pub const NODE_LINK: &str = "NODE_LINK";
    /// The identifier of the nodes' VXLAN network, u32.
    pub const VXLAN_VNI: &str = "VXLAN_VNI";
    /// Whether backends on other nodes answer clients outside themselves, u32; 0 or
    /// 1. Flows go on as they began.
    pub const DIRECT_RETURN: &str = "DIRECT_RETURN";
    /// Whether what pods send out of the cluster goes with the node's address, u32;
    /// 0 or 1.
    pub const MASQUERADE: &str = "MASQUERADE";
    /// Whether next hops are remembered for the program at the driver, u32; 0 or 1.
    pub const LEARN_NEXT_HOPS: &str = "LEARN_NEXT_HOPS";
    /// The ports that the programs give to flows whose source they change,
    /// first and last, u16 each; reserved from the host.
    pub const SNAT_FIRST: &str = "SNAT_FIRST";
    pub const SNAT_LAST: &str = "SNAT_LAST";
}

/// Source ports the programs give to connections they translate; the node's
/// sockets leave them alone (`ip_local_reserved_ports`).
pub const SNAT_PORTS: core::ops::RangeInclusive<u16> = 61_000..=65_535;

/// Most frontends: an address, port and protocol each. 50,000 services with
/// two ports and a NodePort fit.
pub const MAX_FRONTENDS: u32 = 1 << 18;
/// Most addresses of services and of the node.
pub const MAX_ADDRESSES: u32 = 1 << 17;
/// Most service-ports.
pub const MAX_SERVICES: u32 = 1 << 17;
/// Most backends of all service-ports together, blocks in powers of two.
pub const MAX_SLOTS: u32 = 1 << 20;
/// Most endpoints of UDP service-ports, of those with affinity and of those
/// balanced by live connections.
pub const MAX_BACKENDS: u32 = 1 << 19;
/// Most service-ports of which it is known how long connections took, on a
/// node that dials them; 232 bytes each and for each processor.
pub const MAX_LATENCIES: u32 = 1 << 12;
/// Most ranges of client addresses.
pub const MAX_SOURCE_RANGES: u32 = 1 << 16;
/// Relations of UDP sockets to backends remembered; the least used goes first.
/// This and the others of that kind are what the object asks for; a daemon that
/// makes the maps goes by the node's memory.
pub const MAX_REVERSE: u32 = 1 << 16;
/// Clients of services with affinity remembered, likewise.
pub const MAX_AFFINITY: u32 = 1 << 16;
/// Most pods of a node, and network namespaces with flags.
pub const MAX_PODS: u32 = 1 << 12;
/// Most uplinks of a node.
pub const MAX_UPLINKS: u32 = 1 << 6;
/// Most ranges of addresses of other nodes' pods.
pub const MAX_PEER_PODS: u32 = 1 << 14;
/// Most ranges of addresses that pods reach with their own: those of the cluster,
/// and those that the node's owner has named.
pub const MAX_NON_MASQUERADE: u32 = 1 << 15;
/// Directions of conversations balanced by the packet, two each.
pub const MAX_FLOWS: u32 = 1 << 17;
/// Datagrams in fragments that are under way.
pub const MAX_FRAGMENTS: u32 = 1 << 12;

/// Most addresses of pods of the cluster that a selector of a policy matches.
pub const MAX_IDENTITIES: u32 = 1 << 17;
/// Most ranges in the `ipBlock`s, `networks` and `nodes` of policies.
pub const MAX_BLOCKS: u32 = 1 << 14;
/// Most peers of rules with the ports they are let to, as prefixes.
pub const MAX_RULES: u32 = 1 << 17;
/// Conversations of pods that policies select; the least used goes first, as of
/// flows.
pub const MAX_CONVERSATIONS: u32 = 1 << 17;

/// What all pinned maps together may hold of the kernel's memory, in bytes, with
/// 50,000 services in them; a test of `node/proxy` programs as many.
pub const MAPS_BUDGET: u64 = 192 << 20;

/// The ring buffer of events: some 7,000 of them.
pub const EVENTS_BYTES: u32 = 1 << 19;

/// The ring buffer of beginnings: some 4,300 of them.
pub const BEGINNINGS_BYTES: u32 = 1 << 19;

/// Destinations of packets that leave by the uplink they came by, if the program
/// at the driver is wanted.
pub const MAX_NEXT_HOPS: u32 = 1 << 16;

/// Identifies the layout of the maps. Maps of another layout are neither read
/// nor written: the daemon fills new ones and then swaps the programs.
pub const LAYOUT: u32 = fnv1a(&[
    // Raised by hand when the meaning of a field changes and its size does not.
    4,
    size_of::<FrontendKey>() as u32,
    size_of::<Frontend>() as u32,
    size_of::<Service>() as u32,
    size_of::<Slot>() as u32,
    size_of::<BackendKey>() as u32,
    size_of::<SourceRange>() as u32,
    size_of::<ReverseKey>() as u32,
    size_of::<Endpoint>() as u32,
    size_of::<AffinityKey>() as u32,
    size_of::<Affinity>() as u32,
    size_of::<Pod>() as u32,
    size_of::<Traffic>() as u32,
    size_of::<Uplink>() as u32,
    size_of::<PeerPods>() as u32,
    size_of::<Sources>() as u32,
    size_of::<Connection>() as u32,
    size_of::<Latency>() as u32,
    size_of::<Live>() as u32,
    size_of::<Tuple>() as u32,
    size_of::<Flow>() as u32,
    size_of::<FragmentKey>() as u32,
    size_of::<FragmentPorts>() as u32,
    size_of::<Event>() as u32,
    size_of::<Rule>() as u32,
    size_of::<Conversation>() as u32,
    EVENTS_BYTES,
    Reason::ALL.len() as u32,
    MAX_FRONTENDS,
    MAX_ADDRESSES,
    MAX_SERVICES,
    MAX_SLOTS,
    MAX_BACKENDS,
    MAX_LATENCIES,
    MAX_SOURCE_RANGES,
    MAX_REVERSE,
    MAX_AFFINITY,
    MAX_PODS,
    MAX_UPLINKS,
    MAX_PEER_PODS,
    MAX_NON_MASQUERADE,
    MAX_FLOWS,
    MAX_FRAGMENTS,
    MAX_IDENTITIES,
    MAX_BLOCKS,
    MAX_RULES,
    MAX_CONVERSATIONS,
]);

const fn fnv1a(words: &[u32]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < words.len() {
        let bytes = words[at].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u32).wrapping_mul(0x0100_0193);
            byte += 1;
        }
        at += 1;
    }
    hash
}

//! What the daemon writes and the programs read, and the programs' own memory.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use vetch_ebpf_common::{
    Address, Affinity, AffinityKey, BEGINNINGS_BYTES, BackendKey, BeginningPace, Conversation,
    EVENTS_BYTES, Endpoint, ErrorPace, EventPace, Flow, FragmentKey, FragmentPorts, Frontend,
    FrontendKey, Latency, MAX_ADDRESSES, MAX_AFFINITY, MAX_BACKENDS, MAX_BLOCKS, MAX_CONVERSATIONS,
    MAX_FLOWS, MAX_FRAGMENTS, MAX_FRONTENDS, MAX_IDENTITIES, MAX_LATENCIES, MAX_NON_MASQUERADE,
    MAX_PEER_PODS, MAX_PODS, MAX_REVERSE, MAX_RULES, MAX_SERVICES, MAX_SLOTS, MAX_SOURCE_RANGES,
    MAX_UPLINKS, PeerPods, Pod, Reason, ReverseKey, Rule, Service, Slot, SourceRange, Sources,
    Sweep, Traffic, Tuple, Uplink, notes,
};

#[map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend> =
    HashMap::pinned(MAX_FRONTENDS, BPF_F_NO_PREALLOC);

/// What an address is, whatever the port: [`vetch_ebpf_common::addresses`].
#[map]
pub static ADDRESSES: HashMap<Address, u32> = HashMap::pinned(MAX_ADDRESSES, BPF_F_NO_PREALLOC);

/// Mapped by the daemon (5.5), so that a word is stored at one instant.
#[map]
pub static SERVICES: Array<Service> = Array::pinned(MAX_SERVICES, BPF_F_MMAPABLE);

#[map]
pub static SLOTS: Array<Slot> = Array::pinned(MAX_SLOTS, BPF_F_MMAPABLE);

#[map]
pub static BACKENDS: HashMap<BackendKey, u32> = HashMap::pinned(MAX_BACKENDS, BPF_F_NO_PREALLOC);

#[map]
pub static SOURCE_RANGES: LpmTrie<SourceRange, u32> =
    LpmTrie::pinned(MAX_SOURCE_RANGES, BPF_F_NO_PREALLOC);

#[map]
pub static REVERSE: LruHashMap<ReverseKey, Endpoint> = LruHashMap::pinned(MAX_REVERSE, 0);

#[map]
pub static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::pinned(MAX_AFFINITY, 0);

#[map]
pub static PODS: HashMap<Address, Pod> = HashMap::pinned(MAX_PODS, BPF_F_NO_PREALLOC);

/// Flags of [`Pod`] by the cookie of the pod's network namespace.
#[map]
pub static NETNS_FLAGS: HashMap<u64, u32> = HashMap::pinned(MAX_PODS, BPF_F_NO_PREALLOC);

/// Ranges of addresses of other nodes' pods, IPv4's in IPv6.
#[map]
pub static PEER_PODS: LpmTrie<[u32; 4], PeerPods> =
    LpmTrie::pinned(MAX_PEER_PODS, BPF_F_NO_PREALLOC);

/// Ranges of addresses that pods reach with their own, IPv4's in IPv6.
#[map]
pub static NON_MASQUERADE: LpmTrie<[u32; 4], u32> =
    LpmTrie::pinned(MAX_NON_MASQUERADE, BPF_F_NO_PREALLOC);

/// By ifindex of an uplink: as whom pods are seen behind it.
#[map]
pub static SOURCES: HashMap<u32, Sources> = HashMap::pinned(MAX_UPLINKS, BPF_F_NO_PREALLOC);

/// Conversations by packet, each direction by the tuple that its packets come
/// with.
#[map]
pub static FLOWS: LruHashMap<Tuple, Flow> = LruHashMap::pinned(MAX_FLOWS, 0);

/// Ports of datagrams that come in fragments.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> = LruHashMap::pinned(MAX_FRAGMENTS, 0);

#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::pinned(Reason::ALL.len() as u32, 0);

/// By the service-port's number.
#[map]
pub static TRAFFIC: PerCpuHashMap<u32, Traffic> =
    PerCpuHashMap::pinned(MAX_SERVICES, BPF_F_NO_PREALLOC);

/// Likewise; of those that were dialled.
#[map]
pub static LATENCIES: PerCpuHashMap<u32, Latency> =
    PerCpuHashMap::pinned(MAX_LATENCIES, BPF_F_NO_PREALLOC);

/// By ifindex.
#[map]
pub static UPLINKS: HashMap<u32, Uplink> = HashMap::pinned(MAX_UPLINKS, BPF_F_NO_PREALLOC);

/// Not pinned: nothing of it is worth keeping.
#[map]
pub static ERROR_PACE: PerCpuArray<ErrorPace> = PerCpuArray::with_max_entries(1, 0);

/// Drops and refusals (5.8). Readers take nothing out but to make room.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(EVENTS_BYTES, 0);

/// Events that were too many, or for which there was no room.
#[map]
pub static EVENTS_MISSED: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

/// As for errors.
#[map]
pub static EVENT_PACE: PerCpuArray<EventPace> = PerCpuArray::with_max_entries(1, 0);

/// [`vetch_ebpf_common::notes`].
#[map]
pub static NOTES: Array<u64> = Array::pinned(notes::word::COUNT, 0);

/// What begins, while somebody follows. Apart from drops, which it would else push
/// out.
#[map]
pub static BEGINNINGS: RingBuf = RingBuf::pinned(BEGINNINGS_BYTES, 0);

/// Those that were too many, or for which there was no room.
#[map]
pub static BEGINNINGS_MISSED: PerCpuArray<u64> = PerCpuArray::pinned(1, 0);

/// As for errors.
#[map]
pub static BEGINNING_PACE: PerCpuArray<BeginningPace> = PerCpuArray::with_max_entries(1, 0);

/// What the last sweep found, for the daemon that ran it.
#[map]
pub static SWEPT: Array<Sweep> = Array::with_max_entries(1, 0);

/// Whether any NetworkPolicy is in force: one word.
#[map]
pub static POLICIES: Array<u32> = Array::pinned(1, 0);

/// Who a pod of the cluster is to the policies of this node's.
#[map]
pub static IDENTITIES: HashMap<Address, u32> = HashMap::pinned(MAX_IDENTITIES, BPF_F_NO_PREALLOC);

/// In which `ipBlock`s and exceptions an address is, IPv4's in IPv6.
#[map]
pub static BLOCKS: LpmTrie<[u32; 4], u32> = LpmTrie::pinned(MAX_BLOCKS, BPF_F_NO_PREALLOC);

#[map]
pub static RULES: LpmTrie<Rule, u32> = LpmTrie::pinned(MAX_RULES, BPF_F_NO_PREALLOC);

/// By the tuple of the first packet, as the pods know it.
#[map]
pub static CONVERSATIONS: LruHashMap<Tuple, Conversation> =
    LruHashMap::pinned(MAX_CONVERSATIONS, 0);

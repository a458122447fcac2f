//! What the daemon writes and the programs read, and the programs' own memory.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap},
};
use vetch_ebpf_common::{
    Endpoint, Frontend, FrontendKey, MAX_FRONTENDS, MAX_REVERSE, MAX_SERVICES, MAX_SLOTS,
    ReverseKey, ServiceWord, Slot,
};

#[map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend> =
    HashMap::pinned(MAX_FRONTENDS, BPF_F_NO_PREALLOC);

/// Mapped by the daemon (5.5), so that a word is stored at one instant.
#[map]
pub static SERVICES: Array<ServiceWord> = Array::pinned(MAX_SERVICES, BPF_F_MMAPABLE);

#[map]
pub static SLOTS: Array<Slot> = Array::pinned(MAX_SLOTS, BPF_F_MMAPABLE);

#[map]
pub static REVERSE: LruHashMap<ReverseKey, Endpoint> = LruHashMap::pinned(MAX_REVERSE, 0);

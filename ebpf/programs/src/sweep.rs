//! What has outlived its time, taken out of the tables that the programs fill.
//!
//! The daemon runs it (`BPF_PROG_TEST_RUN`); no packet meets it. Walking inside
//! the kernel costs no call for each entry, and both halves of a conversation
//! go before a reader in user space would have seen the second.
//!
//! Nothing that stays is looked up, because that would make it look used: the
//! order by which a full table drops entries is the packets' own.

use aya_ebpf::{
    bindings::TC_ACT_OK,
    cty::{c_long, c_void},
    helpers::{bpf_for_each_map_elem, bpf_ktime_get_boot_ns},
    macros::classifier,
    programs::TcContext,
};
use vetch_ebpf_common::{
    Affinity, AffinityKey, Direction, Flow, FragmentKey, FragmentPorts, Sweep, Tuple,
};

use crate::{
    balance::terms,
    flows,
    maps::{AFFINITY, FLOWS, FRAGMENTS, REVERSE, SWEPT, TRAFFIC},
};

/// What a walk calls for each entry; 0 goes on.
type Visit<K, V> = extern "C" fn(*const c_void, *const K, *const V, *const c_void) -> c_long;

const NEXT: c_long = 0;
const STOP: c_long = 1;

#[classifier]
pub fn sweep(_ctx: TcContext) -> i32 {
    // SAFETY: the helper has no preconditions.
    let boot = unsafe { bpf_ktime_get_boot_ns() };
    if let Some(swept) = swept() {
        *swept = Sweep::at(flows::now(), boot);
    }
    walk(&raw const FLOWS, flow);
    walk(&raw const AFFINITY, affinity);
    walk(&raw const FRAGMENTS, fragment);
    let reverse = walk::<_, (), ()>(&raw const REVERSE, nothing);
    let traffic = walk::<_, (), ()>(&raw const TRAFFIC, nothing);
    if let Some(swept) = swept() {
        swept.reverse = reverse;
        swept.traffic = traffic;
    }
    TC_ACT_OK as i32
}

/// Returns how many entries there were (5.13).
#[inline(always)]
fn walk<M, K, V>(map: *const M, visit: Visit<K, V>) -> u32 {
    // SAFETY: `map` is a map of this object with keys and values as `visit`
    // takes them; the verifier holds it to their sizes. Elements may be removed
    // while a hash map is walked.
    let visited = unsafe {
        bpf_for_each_map_elem(
            map.cast_mut().cast(),
            visit as *mut c_void,
            core::ptr::null_mut(),
            0,
        )
    };
    visited as u32
}

/// In a map, because the verifier takes what it reads there for any number,
/// however often a visit is made.
#[inline(always)]
fn swept() -> Option<&'static mut Sweep> {
    let swept = SWEPT.get_ptr_mut(0)?;
    // SAFETY: only this program writes it, one run at a time but for a daemon
    // that hands over to the next: then counts of one run are mixed.
    Some(unsafe { &mut *swept })
}

extern "C" fn flow(
    _map: *const c_void,
    key: *const Tuple,
    entry: *const Flow,
    _ctx: *const c_void,
) -> c_long {
    let Some(swept) = swept() else {
        return STOP;
    };
    // SAFETY: the kernel gives an element of the map. Copied, because one that
    // is removed may be another's at once.
    let (key, entry) = unsafe { (*key, *entry) };
    if entry.is_over(swept.now) && is_gone(&key, &entry, swept) {
        return NEXT;
    }
    match entry.direction() {
        Direction::Original => {
            let kind = Sweep::index(key.protocol, entry.state.phase());
            if let Some(live) = swept.live.get_mut(kind) {
                *live += 1;
            }
        }
        Direction::Reply => swept.replies += 1,
    }
    NEXT
}

/// Takes the conversation away unless its other half was seen later.
#[inline(never)]
fn is_gone(key: &Tuple, entry: &Flow, swept: &mut Sweep) -> bool {
    let (twin_key, twin) = entry.twin(key);
    let alone = match flows::get(&twin_key) {
        _ if entry.is_direct() => 0,
        Some(other) if other.to == twin.to => {
            if !entry.is_over_with(&other, swept.now) {
                return false;
            }
            0
        }
        _ => 1,
    };
    // The walk may still come by a half that went with its other one.
    if flows::forget(key, entry) {
        swept.expired += 1;
        swept.orphans += alone;
    }
    true
}

extern "C" fn affinity(
    _map: *const c_void,
    key: *const AffinityKey,
    entry: *const Affinity,
    _ctx: *const c_void,
) -> c_long {
    let Some(swept) = swept() else {
        return STOP;
    };
    // SAFETY: as above.
    let (key, entry) = unsafe { (*key, *entry) };
    if !entry.is_over(swept.boot, terms(key.service())) {
        swept.affinity += 1;
    } else if AFFINITY.remove(&key).is_ok() {
        swept.affinity_expired += 1;
    }
    NEXT
}

extern "C" fn fragment(
    _map: *const c_void,
    key: *const FragmentKey,
    entry: *const FragmentPorts,
    _ctx: *const c_void,
) -> c_long {
    let Some(swept) = swept() else {
        return STOP;
    };
    // SAFETY: as above.
    let (key, entry) = unsafe { (*key, *entry) };
    if !entry.is_over(swept.now) {
        swept.fragments += 1;
    } else if FRAGMENTS.remove(&key).is_ok() {
        swept.fragments_expired += 1;
    }
    NEXT
}

/// For the count alone.
extern "C" fn nothing(
    _map: *const c_void,
    _key: *const (),
    _entry: *const (),
    _ctx: *const c_void,
) -> c_long {
    NEXT
}

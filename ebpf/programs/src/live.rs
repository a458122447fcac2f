//! Live connections by backend, of service-ports that balance by them. What is
//! here is this node's: others' connections it does not see.
//!
//! A socket is counted from its first packet to its end, of which the kernel
//! tells however it comes about. A flow by packet is counted from its first
//! packet until both ends or a reset were seen; the daemon counts flows anew
//! once a minute, for those that are forgotten without that.

use core::intrinsics::{AtomicOrdering::Relaxed, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::HashMap,
};
use vetch_ebpf_common::{BackendKey, Flow, Live, MAX_BACKENDS, Tuple};

#[map]
static LIVE_SOCKETS: HashMap<BackendKey, Live> = HashMap::pinned(MAX_BACKENDS, BPF_F_NO_PREALLOC);

#[map]
static LIVE_FLOWS: HashMap<BackendKey, i64> = HashMap::pinned(MAX_BACKENDS, BPF_F_NO_PREALLOC);

/// Both kinds together.
#[inline(never)]
pub fn connections(key: &BackendKey) -> i64 {
    let sockets = LIVE_SOCKETS.get_ptr(key).map_or(0, |live| {
        // SAFETY: one aligned word; freed only after a grace period.
        unsafe { (&raw const (*live).count).read_volatile() }
    });
    // SAFETY: as above.
    let flows = LIVE_FLOWS
        .get_ptr(key)
        .map_or(0, |count| unsafe { count.read_volatile() });
    sockets + flows
}

/// The epoch that the end of the connection is to be told with; 0 if the table
/// is full and it is not counted.
#[inline(never)]
pub fn socket_opened(key: &BackendKey) -> u64 {
    let Some(live) = LIVE_SOCKETS.get_ptr_mut(key).or_else(|| first_socket(key)) else {
        return 0;
    };
    // SAFETY: aligned words of one element, freed only after a grace period.
    unsafe {
        add(&raw mut (*live).count, 1);
        (&raw const (*live).epoch).read_volatile()
    }
}

#[inline(always)]
fn first_socket(key: &BackendKey) -> Option<*mut Live> {
    // SAFETY: the helper has no preconditions.
    let epoch = unsafe { bpf_ktime_get_ns() };
    // Another processor may be faster; then its element is there.
    let _ = LIVE_SOCKETS.insert(key, Live { count: 0, epoch }, BPF_NOEXIST.into());
    LIVE_SOCKETS.get_ptr_mut(key)
}

#[inline(never)]
pub fn socket_closed(key: &BackendKey, epoch: u64) {
    let Some(live) = LIVE_SOCKETS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: as above.
    unsafe {
        if (&raw const (*live).epoch).read_volatile() == epoch {
            add(&raw mut (*live).count, -1);
        }
    }
}

/// The flow with this entry has begun.
#[inline(always)]
pub fn flow_opened(key: &Tuple, flow: &Flow) {
    if flow.is_counted_live() {
        open_flow(&BackendKey::new(flow.service, flow.backend(key)));
    }
}

/// The flow with this entry is closed, or forgotten before it was.
#[inline(always)]
pub fn flow_closed(key: &Tuple, flow: &Flow) {
    if flow.is_counted_live() {
        close_flow(&BackendKey::new(flow.service, flow.backend(key)));
    }
}

#[inline(never)]
fn open_flow(key: &BackendKey) {
    if LIVE_FLOWS.get_ptr(key).is_none() {
        let _ = LIVE_FLOWS.insert(key, 0_i64, BPF_NOEXIST.into());
    }
    if let Some(count) = LIVE_FLOWS.get_ptr_mut(key) {
        add(count, 1);
    }
}

#[inline(never)]
fn close_flow(key: &BackendKey) {
    if let Some(count) = LIVE_FLOWS.get_ptr_mut(key) {
        add(count, -1);
    }
}

#[inline(always)]
fn add(count: *mut i64, by: i64) {
    // The atomic types have no operations here but loads and stores: BPF's
    // compare-and-exchange (5.12) came after its add.
    // SAFETY: an aligned word of a map's element, which all change only so.
    unsafe { atomic_xadd::<i64, i64, { Relaxed }>(count, by) };
}

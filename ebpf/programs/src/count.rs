//! Counters: by reason, and by service-port.

use vetch_ebpf_common::{Latency, Reason, Traffic};

use crate::maps::{LATENCIES, REASONS, TRAFFIC};

#[inline(always)]
pub fn reason(reason: Reason) {
    if let Some(count) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: this processor's own value; programs of one processor may
        // interrupt each other between load and store, which loses one count.
        unsafe { *count += 1 };
    }
}

#[inline(always)]
pub fn connection(service: u32) {
    traffic(service, |traffic| traffic.connections += 1);
}

#[inline(always)]
pub fn refused(service: u32) {
    traffic(service, |traffic| traffic.refused += 1);
}

/// What a connection or flow of the service-port has brought, which is known
/// from its beginning; if it is not, it has gone since, and its counters too.
#[inline(always)]
pub fn bytes(service: u32, from_client: u64, from_backend: u64) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(service) {
        // SAFETY: as above.
        let traffic = unsafe { &mut *traffic };
        traffic.bytes_in += from_client;
        traffic.bytes_out += from_backend;
    }
}

/// How long it took to reach a backend.
#[inline(always)]
pub fn latency(service: u32, nanoseconds: u64) {
    if let Some(latency) = LATENCIES.get_ptr_mut(service) {
        // SAFETY: as above.
        unsafe { &mut *latency }.add(nanoseconds);
        return;
    }
    let mut first = Latency::NONE;
    first.add(nanoseconds);
    // As below.
    let _ = LATENCIES.insert(service, first, 0);
}

#[inline(always)]
fn traffic(service: u32, add: impl Fn(&mut Traffic)) {
    if let Some(traffic) = TRAFFIC.get_ptr_mut(service) {
        // SAFETY: as above.
        add(unsafe { &mut *traffic });
        return;
    }
    let mut first = Traffic::default();
    add(&mut first);
    // A full map counts nothing more; the call it counts goes on.
    let _ = TRAFFIC.insert(service, first, 0);
}

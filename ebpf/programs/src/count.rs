//! Counters: by reason, and by service-port.

use vetch_ebpf_common::{Reason, Traffic};

use crate::maps::{REASONS, TRAFFIC};

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

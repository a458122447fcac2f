//! Telling of single drops and refusals. Nothing here is run by what gets
//! through.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns};
use vetch_ebpf_common::{Event, EventKind, Reason, Site};

use crate::{
    find::{Found, find},
    maps::{EVENT_PACE, EVENTS, EVENTS_MISSED},
    parse::Kind,
    work::work,
};

/// Of the packet in hand, at the device `ifindex`.
#[inline(never)]
pub fn packet(ifindex: u32, site: Site, kind: EventKind, reason: Reason) {
    let Some(mut event) = due(site, kind, reason) else {
        return;
    };
    event.ifindex = ifindex;
    // Of a packet that was not parsed to its end the last one's is there.
    if reason != Reason::Malformed
        && let Ok(work) = work()
    {
        let packet = &work.packet;
        let tuple = &packet.tuple;
        event.src = packet.src;
        event.dst = packet.dst;
        event.protocol = packet.ip.protocol;
        if packet.kind == Kind::Transport {
            event.sport = tuple.sport;
            event.dport = tuple.dport;
            if let Found::Frontend(frontend) = find(tuple.destination(), tuple.protocol, || false) {
                event.service = frontend.service();
            }
        }
    }
    write(&event);
}

/// An event of now, if this processor may still write one.
#[inline(always)]
pub fn due(site: Site, kind: EventKind, reason: Reason) -> Option<Event> {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let pace = EVENT_PACE.get_ptr_mut(0)?;
    // SAFETY: this processor's own value; a program that interrupts another
    // costs or spares one event.
    if unsafe { (*pace).take(now) } {
        return Some(Event::new(kind, reason, site, now));
    }
    missed();
    None
}

/// Wakes no reader: whoever follows looks by itself.
#[inline(always)]
pub fn write(event: &Event) {
    if EVENTS
        .output::<Event>(event, BPF_RB_NO_WAKEUP.into())
        .is_err()
    {
        missed();
    }
}

#[inline(always)]
fn missed() {
    if let Some(count) = EVENTS_MISSED.get_ptr_mut(0) {
        // SAFETY: as in `count::reason`.
        unsafe { *count += 1 };
    }
}

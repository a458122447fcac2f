//! Telling of conversations as they begin. While nobody follows it costs a load at
//! each beginning, and the packets behind that cost nothing.
//!
//! Each function has a frame of its own and is called where the stack is not at its
//! deepest; what it tells is written where the reader finds it.

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::bpf_ktime_get_ns};
use vetch_ebpf_common::{
    Address, Beginning, Endpoint, Event, EventKind, Site, Tuple, notes, policy::Lookup as _,
};

use crate::{
    access::{Context, ifindex},
    maps::{BEGINNING_PACE, BEGINNINGS, BEGINNINGS_MISSED, NOTES},
    policy::Maps,
    work::{Work, work},
};

/// Whether somebody looks.
#[inline(always)]
pub fn is_followed() -> bool {
    let Some(until) = NOTES.get_ptr(notes::word::FOLLOWED_UNTIL) else {
        return false;
    };
    // SAFETY: one aligned u64, which followers store at any time.
    let until = unsafe { until.read_volatile() };
    until != 0 && now() < until
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Of the flow in hand, which was written for the packet in hand.
#[inline(always)]
pub fn flow(ctx: &impl Context, site: Site) {
    flow_begins(ifindex(ctx), site as u32);
}

/// A global function, as `balance` is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_begins(ifindex: u32, site: u32) -> u32 {
    if !is_followed() {
        return 0;
    }
    let Ok(work) = work() else {
        return 0;
    };
    let kind = if work.flow.is_outside() {
        EventKind::Masquerade
    } else {
        EventKind::Translate
    };
    let told = Told {
        kind,
        site: site as u8,
        netns: 0,
        ifindex,
        service: work.flow.service,
    };
    tell(&told, &work.packet.tuple, &work.flow.to);
    1
}

/// Of the tuple in hand, which policies let pass.
#[inline(never)]
pub fn allowed(work: &Work, site: u8) {
    if !is_followed() {
        return;
    }
    let told = Told {
        kind: EventKind::Allow,
        site,
        netns: 0,
        ifindex: 0,
        service: Event::NO_SERVICE,
    };
    tell(&told, &work.judged, &work.judged);
}

/// Of a call that is pointed at a backend: from whom, is to be seen by the
/// namespace, since a socket that dials has no address yet.
#[inline(always)]
pub fn call(
    site: Site,
    netns: u64,
    dialled: &Endpoint,
    backend: &Endpoint,
    service: u32,
    protocol: u8,
) {
    let told = Told {
        kind: EventKind::Translate,
        site: site as u8,
        netns,
        ifindex: 0,
        service,
    };
    let nobody = Endpoint::new(Address::ANY_V6, [0; 2]);
    let (from, to) = (
        Tuple::new(nobody, *dialled, protocol),
        Tuple::new(nobody, *backend, protocol),
    );
    tell(&told, &from, &to);
}

struct Told {
    kind: EventKind,
    site: u8,
    netns: u64,
    ifindex: u32,
    service: u32,
}

/// Wakes no reader: whoever follows looks by itself.
#[inline(always)]
fn tell(told: &Told, from: &Tuple, to: &Tuple) {
    let time = now();
    if !is_due(time) {
        return missed();
    }
    let Some(mut entry) = BEGINNINGS.reserve::<Beginning>(0) else {
        return missed();
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is in hand until it is submitted, and each of its fields is
    // written before that.
    unsafe {
        let event = &raw mut (*record).event;
        (&raw mut (*event).time).write(time);
        (&raw mut (*event).src).write(from.src);
        (&raw mut (*event).dst).write(from.dst);
        (&raw mut (*event).netns).write(told.netns);
        (&raw mut (*event).ifindex).write(told.ifindex);
        (&raw mut (*event).service).write(told.service);
        (&raw mut (*event).sport).write(from.sport);
        (&raw mut (*event).dport).write(from.dport);
        (&raw mut (*event).kind).write(told.kind as u8);
        (&raw mut (*event).reason).write(Event::NO_REASON);
        (&raw mut (*event).site).write(told.site);
        (&raw mut (*event).protocol).write(from.protocol);
        (&raw mut (*record).to).write(*to);
        let identities = &raw mut (*record).identities;
        (&raw mut (*identities)[0]).write(Maps.identity(&from.src));
        (&raw mut (*identities)[1]).write(Maps.identity(&to.dst));
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

/// Whether this processor may still tell one.
#[inline(always)]
fn is_due(time: u64) -> bool {
    // SAFETY: as in `event::due`.
    BEGINNING_PACE
        .get_ptr_mut(0)
        .is_some_and(|pace| unsafe { (*pace).take(time) })
}

#[inline(always)]
fn missed() {
    if let Some(count) = BEGINNINGS_MISSED.get_ptr_mut(0) {
        // SAFETY: as in `count::reason`.
        unsafe { *count += 1 };
    }
}

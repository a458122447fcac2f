//! Remembering conversations, by packet. Only those with a service have
//! entries: what pods say to each other directly costs one lookup.
//!
//! A client that talks to a backend directly and through a service from one
//! port at the same time has its direct answers taken for the service's: it
//! is the price of that. TCP does not get there, it is balanced at the socket.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_ktime_get_coarse_ns};
use vetch_ebpf_common::{Direction, Fate, Flow, Tuple};

use crate::{
    access::Context,
    balance::{generation, serving},
    count, live,
    maps::FLOWS,
    parse::Kind,
    work::Work,
};

/// A tick's precision is enough for seconds (5.11).
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Without any change to it.
#[inline(always)]
pub fn get(key: &Tuple) -> Option<Flow> {
    // SAFETY: copied before it is used. An element recycled in between shows
    // another flow once, which takes 131,072 newer ones in that time.
    unsafe { FLOWS.get(key) }.copied()
}

/// Counts the packet for the service-port of its flow; not an error that tells
/// of another packet.
#[inline(always)]
pub fn count(ctx: &impl Context, work: &Work) {
    let Work { packet, flow, .. } = work;
    if packet.kind != Kind::IcmpError {
        let bytes = u64::from(ctx.len().saturating_sub(packet.ip.l3));
        match flow.direction() {
            Direction::Original => count::bytes(flow.service, bytes, 0),
            Direction::Reply => count::bytes(flow.service, 0, bytes),
        }
    }
}

/// Finds the flow that the packet belongs to, if it has one, and keeps it
/// alive, both halves of it.
#[inline(always)]
pub fn follow(ctx: &impl Context, work: &mut Work) -> bool {
    let Work { packet, flow, .. } = work;
    let key = &packet.tuple;
    if matches!(packet.kind, Kind::Other | Kind::TunnelError) {
        return false;
    }
    let Some(entry) = FLOWS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: as in `get`.
    *flow = unsafe { *entry };
    // An error says nothing of whether the two ends go on.
    packet.kind == Kind::IcmpError || go_on(key, packet.tcp_flags(ctx), entry, flow)
}

/// Goes on from what the packet in hand is rewritten to, as if it had come so, if
/// that is an answer of a service's backend.
#[inline(always)]
pub fn follow_on(work: &mut Work, tcp_flags: u8) -> bool {
    let Work {
        packet,
        flow,
        reply_key,
        reply,
        ..
    } = work;
    *reply_key = flow.to;
    let Some(entry) = FLOWS.get_ptr_mut(&*reply_key) else {
        return false;
    };
    // SAFETY: as in `get`.
    *reply = unsafe { *entry };
    if reply.direction() != Direction::Reply || reply.is_outside() {
        return false;
    }
    if packet.kind != Kind::IcmpError && !go_on(reply_key, tcp_flags, entry, reply) {
        return false;
    }
    *flow = *reply;
    true
}

/// What a packet makes of its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ended,
    Same,
    Changed,
}

/// Whether the flow still is one with this packet. What decides and what writes stand side by side: one within the other
/// they took more than the 512 bytes that 6.1 has for all frames of a program together.
#[inline(always)]
fn go_on(key: &Tuple, tcp_flags: u8, entry: *mut Flow, flow: &mut Flow) -> bool {
    match step(key, tcp_flags, flow) {
        Step::Ended => false,
        Step::Same => true,
        Step::Changed => keep(key, entry, flow),
    }
}

#[inline(never)]
fn step(key: &Tuple, tcp_flags: u8, flow: &mut Flow) -> Step {
    let now = now();
    let direction = flow.direction();
    let mut changed = flow.needs_refresh(now);
    if direction == Direction::Original {
        match flow.fate(tcp_flags, now, || generation(flow.service)) {
            Fate::Kept => {}
            Fate::IfServing if serving(flow.service, flow.to.destination()).is_some() => {
                flow.generation = generation(flow.service) as u16;
                changed = true;
            }
            Fate::IfServing | Fate::Anew => {
                forget(key, flow);
                return Step::Ended;
            }
        }
    }
    let state = flow.after(direction, tcp_flags);
    if !changed && state == flow.state {
        return Step::Same;
    }
    if state.is_closed() && !flow.state.is_closed() {
        live::flow_closed(key, flow);
    }
    flow.state = state;
    flow.seen = now;
    Step::Changed
}

/// Writes down what is new in both halves, or the one there is. Brings back a half that was
/// dropped; false if another flow has its place, which ends this one.
#[inline(never)]
fn keep(key: &Tuple, entry: *mut Flow, flow: &Flow) -> bool {
    if flow.is_direct() {
        write(entry, flow);
        return true;
    }
    let (twin_key, twin) = flow.twin(key);
    match FLOWS.get_ptr_mut(&twin_key) {
        Some(other) => {
            // SAFETY: as in `get`.
            if unsafe { (*other).to } != twin.to {
                if !flow.state.is_closed() {
                    live::flow_closed(key, flow);
                }
                let _ = FLOWS.remove(key);
                return false;
            }
            write(other, &twin);
        }
        None => {
            let _ = FLOWS.insert(&twin_key, twin, BPF_NOEXIST.into());
        }
    }
    write(entry, flow);
    true
}

#[inline(always)]
fn write(entry: *mut Flow, flow: &Flow) {
    // SAFETY: fields of their own size, each valid by itself. In an element
    // recycled since the lookup they make a flow look younger or closed.
    unsafe {
        (&raw mut (*entry).seen).write_volatile(flow.seen);
        (&raw mut (*entry).generation).write_volatile(flow.generation);
        let state = &raw mut (*entry).state;
        state.write_volatile(state.read_volatile().with(flow.state));
    }
}

/// Removes both halves, or the one there is; false if this one was gone already.
#[inline(never)]
pub fn forget(key: &Tuple, flow: &Flow) -> bool {
    if !flow.is_direct() {
        let (twin_key, twin) = flow.twin(key);
        if let Some(other) = get(&twin_key)
            && other.to == twin.to
        {
            let _ = FLOWS.remove(&twin_key);
        }
    }
    let removed = FLOWS.remove(key).is_ok();
    // Once, whoever else forgets it at the same time.
    if removed && !flow.state.is_closed() {
        live::flow_closed(key, flow);
    }
    removed
}

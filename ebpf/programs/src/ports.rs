//! A source port for a flow, so that its answers are nobody else's.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_get_prandom_u32};
use vetch_ebpf_common::{Flow, Protocol, Tuple};

use crate::{flows, live, maps::FLOWS, verdict::Error, work::Work};

/// Reserved from the host (`ip_local_reserved_ports`) and no NodePorts.
#[unsafe(no_mangle)]
static SNAT_FIRST: u16 = 61000;
#[unsafe(no_mangle)]
static SNAT_LAST: u16 = 65535;

/// How many ports are tried.
const PROBES: u32 = 32;
/// How many of them must be free; from then on it will do if their last flow
/// is closed, and a late packet of that meets the new one.
const CHOOSY: u32 = 8;

/// Records both halves of a flow, with a source port that no other flow of its
/// backend has. The flow found in `flow` afterwards is the one that counts:
/// the client's next packet may have been faster on another processor.
///
/// The client's port is kept as long as nobody else has it; but if the address
/// becomes the node's, only one of the range will do.
#[inline(never)]
pub fn claim(work: &mut Work) -> Result<(), Error> {
    let Work {
        packet,
        flow,
        reply_key,
        reply,
        ..
    } = work;
    let key = &packet.tuple;
    // Its answers are somebody else's to tell from others.
    if flow.is_direct() {
        return record_one(key, flow);
    }
    let sctp = key.protocol == Protocol::Sctp as u8;
    if sctp && flow.to.dport != key.dport {
        return Err(Error::Unsupported);
    }
    let now = flow.seen;
    let (first, count) = range();
    // SAFETY: the helper has no preconditions.
    let start = unsafe { bpf_get_prandom_u32() };
    for attempt in 0..=PROBES {
        flow.to.sport = if attempt == 0 {
            let own = u16::from_be_bytes(key.sport).wrapping_sub(first as u16);
            // A checksum of SCTP covers its ports and more than a difference
            // can correct.
            if flow.to.src != key.src && u32::from(own) >= count && !sctp {
                continue;
            }
            key.sport
        } else if sctp {
            return Err(Error::Unsupported);
        } else {
            let offset = start.wrapping_add(attempt) % count;
            ((first + offset) as u16).to_be_bytes()
        };
        let closed_will_do = attempt == 0 || attempt > CHOOSY;
        *reply_key = flow.to.reverse();
        if is_free(reply_key, key, now, closed_will_do) {
            *reply = flow.twin(key).1;
            return record(key, flow, reply_key, reply);
        }
    }
    Err(Error::SourcePorts)
}

/// Records both halves of a flow in which nothing changes, unless another's
/// answers would be taken for its own.
#[inline(always)]
pub fn claim_as_it_is(work: &mut Work) {
    let Work {
        packet,
        flow,
        reply_key,
        reply,
        ..
    } = work;
    let key = &packet.tuple;
    *reply_key = flow.to.reverse();
    if is_free(reply_key, key, flow.seen, false) {
        *reply = flow.twin(key).1;
        // Without it the next packet is the first one.
        let _ = record(key, flow, reply_key, reply);
    }
}

/// First port and number of ports.
#[inline(always)]
fn range() -> (u32, u32) {
    // SAFETY: constants of this object; volatile, because the loader writes
    // them after the compiler has seen their values.
    let (first, last) = unsafe {
        (
            core::ptr::read_volatile(&raw const SNAT_FIRST),
            core::ptr::read_volatile(&raw const SNAT_LAST),
        )
    };
    let (first, last) = (u32::from(first), u32::from(last));
    (first, last.saturating_sub(first) + 1)
}

/// Whether nobody has the tuple, or nobody who will miss it.
#[inline(always)]
fn is_free(reply_key: &Tuple, key: &Tuple, now: u64, closed_will_do: bool) -> bool {
    // SAFETY: an element recycled while it is looked at costs a port or, in
    // `record`, a flow.
    let Some(other) = (unsafe { FLOWS.get(reply_key) }) else {
        return true;
    };
    closed_will_do && other.state.is_closed() || other.is_over(now) || other.to.is_reverse_of(key)
}

/// The one half of a flow that has no other.
#[inline(always)]
fn record_one(key: &Tuple, flow: &mut Flow) -> Result<(), Error> {
    if FLOWS.insert(key, &*flow, BPF_NOEXIST.into()).is_ok() {
        live::flow_opened(key, flow);
        return Ok(());
    }
    // As in `record`.
    // SAFETY: as above.
    *flow = *unsafe { FLOWS.get(key) }.ok_or(Error::FlowTable)?;
    Ok(())
}

#[inline(always)]
fn record(key: &Tuple, flow: &mut Flow, reply_key: &Tuple, reply: &Flow) -> Result<(), Error> {
    // SAFETY: as above.
    if let Some(other) = unsafe { FLOWS.get(reply_key) } {
        flows::forget(reply_key, other);
    }
    // Another processor may have been faster since the port was free; of that
    // the client's next try will know.
    if FLOWS.insert(reply_key, reply, BPF_NOEXIST.into()).is_err() {
        return Err(Error::FlowTable);
    }
    if FLOWS.insert(key, &*flow, BPF_NOEXIST.into()).is_ok() {
        live::flow_opened(key, flow);
        return Ok(());
    }
    // The same, with a packet of this very flow.
    // SAFETY: as above.
    let Some(other) = (unsafe { FLOWS.get(key) }) else {
        let _ = FLOWS.remove(reply_key);
        return Err(Error::FlowTable);
    };
    if other.to != flow.to {
        let _ = FLOWS.remove(reply_key);
    }
    *flow = *other;
    Ok(())
}

//! A source port for a flow, so that its answers are nobody else's.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::bpf_get_prandom_u32};
use vetch_ebpf_common::{Flow, Protocol, Tuple};

use crate::{flows, maps::FLOWS, verdict::Error};

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

/// Which ports the source may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The client's, as long as nobody else has it.
    Client,
    /// One of the range, because the address is the node's.
    Range,
}

/// Records both halves of a flow, with a source port that no other flow of its
/// backend has. The flow found in `flow` afterwards is the one that counts:
/// the client's next packet may have been faster on another processor.
#[inline(always)]
pub fn claim(key: &Tuple, flow: &mut Flow, ports: Ports) -> Result<(), Error> {
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
            if ports == Ports::Range && u32::from(own) >= count && !sctp {
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
        if reply(key, flow, now, closed_will_do) {
            return original(key, flow);
        }
    }
    Err(Error::SourcePorts)
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

/// Records the backend's direction if nobody has its tuple.
#[inline(always)]
fn reply(key: &Tuple, flow: &Flow, now: u64, closed_will_do: bool) -> bool {
    let (reply_key, reply) = flow.twin(key);
    if let Some(other) = flows::get(&reply_key) {
        let ours = other.to == reply.to;
        let free = other.is_over(now) || closed_will_do && other.state.is_closed();
        if !ours && !free {
            return false;
        }
        flows::forget(&reply_key, &other);
    }
    // Fails if another processor was faster.
    FLOWS
        .insert(&reply_key, reply, BPF_NOEXIST.into())
        .is_ok()
}

/// Records the client's direction.
#[inline(always)]
fn original(key: &Tuple, flow: &mut Flow) -> Result<(), Error> {
    if FLOWS.insert(key, *flow, BPF_NOEXIST.into()).is_ok() {
        return Ok(());
    }
    let (reply_key, _) = flow.twin(key);
    match flows::get(key) {
        Some(other) => {
            if other.to != flow.to {
                let _ = FLOWS.remove(&reply_key);
            }
            *flow = other;
            Ok(())
        }
        None => {
            let _ = FLOWS.remove(&reply_key);
            Err(Error::FlowTable)
        }
    }
}

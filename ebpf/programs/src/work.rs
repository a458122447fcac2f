//! What a classifier knows of its packet. It is kept in a map because the
//! stack has 512 bytes, and because the verifier takes what it reads from a map
//! for any number: the ways by which it came about need not be told apart.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use vetch_ebpf_common::{Endpoint, Flow, Tuple};

use crate::{parse::Packet, verdict::Error};

pub struct Work {
    pub packet: Packet,
    pub flow: Flow,
    /// Of a new flow, the other half.
    pub reply_key: Tuple,
    pub reply: Flow,
    /// Whom a packet is for that came in another node's tunnel; none for any
    /// other packet.
    pub pod: Endpoint,
    /// What policies judge, and the tuple of an answer to it.
    pub judged: Tuple,
    pub reversed: Tuple,
}

/// Programs at these hooks run with softirqs off, so that none interrupts
/// another on its processor (not so under PREEMPT_RT).
#[map]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// The processor's own; with what the packet before has left in it.
#[inline(always)]
pub fn work() -> Result<&'static mut Work, Error> {
    let work = WORK.get_ptr_mut(0).ok_or(Error::Pass)?;
    // SAFETY: nobody else has it until the program ends, as said above. A map
    // begins as zeros, which every field takes for a value.
    Ok(unsafe { &mut *work })
}

//! What becomes of a packet.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use vetch_ebpf_common::Reason;

use crate::{count, refuse::refuse};

/// Goes on: to the next program at the hook, then to the node's stack.
pub const PASS: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT as i32;

/// Why a packet is not translated.
pub enum Error {
    /// None of the programs' business: it goes where it was going.
    Pass,
    Drop(Reason),
    Refuse(Reason),
    /// As the two above; whoever chose has counted.
    Dropped,
    Refused,
}

impl Error {
    /// The packet ends before its headers do.
    pub const SHORT: Self = Self::Drop(Reason::Malformed);
}

#[inline(always)]
pub fn verdict(ctx: &TcContext, result: Result<i32, Error>) -> i32 {
    match result {
        Ok(verdict) => verdict,
        Err(Error::Pass) => PASS,
        Err(Error::Drop(reason)) => {
            count::reason(reason);
            DROP
        }
        Err(Error::Refuse(reason)) => {
            count::reason(reason);
            refuse(ctx)
        }
        Err(Error::Dropped) => DROP,
        Err(Error::Refused) => refuse(ctx),
    }
}

//! What becomes of a packet.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use vetch_ebpf_common::Reason;

use crate::{access::Short, count, refuse::refuse};

/// Goes on: to the next program at the hook, then to the node's stack.
pub const PASS: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT as i32;

/// Why a packet is not translated. Without fields, because a call between
/// programs returns one register; of a verdict's size, because the compiler
/// takes a part of a result that is not there from any register, and the
/// verifier minds if that has a pointer.
#[repr(u32)]
#[derive(Clone, Copy)]
pub enum Error {
    /// None of the programs' business: it goes where it was going.
    Pass,
    Malformed,
    UnknownPort,
    SourceRange,
    SourcePorts,
    Fragment,
    Unsupported,
    FlowTable,
    /// There is no backend; whoever chose has counted.
    Refused,
    /// There is none here, likewise.
    Dropped,
}

impl From<Short> for Error {
    #[inline(always)]
    fn from(Short: Short) -> Self {
        Self::Malformed
    }
}

#[inline(always)]
pub fn verdict(ctx: &TcContext, result: Result<i32, Error>) -> i32 {
    let error = match result {
        Ok(verdict) => return verdict,
        Err(error) => error,
    };
    let reason = match error {
        Error::Pass => return PASS,
        Error::Refused => return refuse(ctx),
        Error::Dropped => return DROP,
        Error::UnknownPort => {
            count::reason(Reason::UnknownPort);
            return refuse(ctx);
        }
        Error::Malformed => Reason::Malformed,
        Error::SourceRange => Reason::SourceRange,
        Error::SourcePorts => Reason::SourcePorts,
        Error::Fragment => Reason::Fragment,
        Error::Unsupported => Reason::Unsupported,
        Error::FlowTable => Reason::FlowTable,
    };
    count::reason(reason);
    DROP
}

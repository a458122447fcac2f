//! What becomes of a packet.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    programs::TcContext,
};
use vetch_ebpf_common::{EventKind, Reason, Site};

use crate::{
    access::{Short, ifindex},
    count, event,
    refuse::refuse,
};

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
    NoEndpoints,
    NoLocalEndpoints,
    Torn,
    Malformed,
    UnknownPort,
    SourceRange,
    SourcePorts,
    Fragment,
    Unsupported,
    FlowTable,
    Tunnel,
    TooLong,
    Source,
    PolicyIngress,
    PolicyEgress,
    PolicyPending,
}

impl Error {
    #[inline(always)]
    const fn reason(self) -> Option<Reason> {
        Some(match self {
            Self::Pass => return None,
            Self::NoEndpoints => Reason::NoEndpoints,
            Self::NoLocalEndpoints => Reason::NoLocalEndpoints,
            Self::Torn => Reason::Torn,
            Self::Malformed => Reason::Malformed,
            Self::UnknownPort => Reason::UnknownPort,
            Self::SourceRange => Reason::SourceRange,
            Self::SourcePorts => Reason::SourcePorts,
            Self::Fragment => Reason::Fragment,
            Self::Unsupported => Reason::Unsupported,
            Self::FlowTable => Reason::FlowTable,
            Self::Tunnel => Reason::Tunnel,
            Self::TooLong => Reason::TooLong,
            Self::Source => Reason::Source,
            Self::PolicyIngress => Reason::PolicyIngress,
            Self::PolicyEgress => Reason::PolicyEgress,
            Self::PolicyPending => Reason::PolicyPending,
        })
    }
}

impl From<Short> for Error {
    #[inline(always)]
    fn from(Short: Short) -> Self {
        Self::Malformed
    }
}

#[inline(always)]
pub fn verdict(ctx: &TcContext, site: Site, result: Result<i32, Error>) -> i32 {
    match result {
        Ok(verdict) => verdict,
        Err(error) => match error.reason() {
            Some(reason) => turn_away(ctx.skb.skb, site, reason),
            None => PASS,
        },
    }
}

/// One copy in the object, as of [`refuse`].
#[inline(never)]
fn turn_away(skb: *mut __sk_buff, site: Site, reason: Reason) -> i32 {
    let ctx = TcContext::new(skb);
    count::reason(reason);
    // At the uplink's egress it is a process of the node: the socket hook has
    // told it what there was to tell.
    let refused = reason.refuses() && !matches!(site, Site::ToNet);
    let kind = if refused {
        EventKind::Refusal
    } else {
        EventKind::Drop
    };
    event::packet(ifindex(&ctx), site, kind, reason);
    if refused { refuse(&ctx, reason) } else { DROP }
}

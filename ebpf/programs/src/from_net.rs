//! What comes from the network: the ingress of the node's uplinks.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vetch_ebpf_common::Site;

use crate::{
    access::is_for_us,
    begin, dial, flows,
    forward::{self, Hook},
    masquerade, nat, neighbour,
    parse::{Kind, parse},
    policy::{self, Translated},
    ports::claim,
    tunnel, tunnel_error,
    verdict::{Error, PASS, verdict},
    work::{Work, work},
};

#[classifier]
pub fn from_net(ctx: TcContext) -> i32 {
    verdict(&ctx, Site::FromNet, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let work = work()?;
    match parse(ctx, &mut work.packet) {
        Ok(()) => {}
        Err(Error::Pass) => return Ok(not_ip(ctx)),
        Err(error) => return Err(error),
    }
    if !is_for_us(ctx) {
        return Ok(PASS);
    }
    if work.packet.kind == Kind::TunnelError {
        return tunnel_error::tell(ctx, work);
    }
    take(ctx, work, Hook::Net)
}

/// A packet for this node or through it, parsed; by an uplink or in the tunnel between
/// nodes.
#[inline(always)]
pub fn take(ctx: &TcContext, work: &mut Work, hook: Hook) -> Result<i32, Error> {
    tunnel::open(ctx, work)?;
    let known = flows::follow(ctx, work) && !tunnel::leads_elsewhere(work);
    if !known || masquerade::is_as_it_is(&work.flow) {
        if tunnel::is_open(work) {
            tunnel::plan(ctx, work)?;
        } else if let Some(pod) = forward::pod(&work.packet.dst) {
            policy::enters(ctx, work, Translated::No)?;
            if !known {
                masquerade::is_called(&work.packet);
            }
            return forward::to_pod(ctx, hook, &work.packet, pod);
        } else {
            dial::plan(ctx, work, hook)?;
        }
        claim(work)?;
        begin::flow(ctx, hook.site());
    }
    if work.flow.is_direct() {
        return tunnel::wrap(ctx, work);
    }
    policy::enters(ctx, work, Translated::Yes)?;
    // The backend of a service may be out there, whose address is what the pod hears.
    masquerade::is_answered(ctx, work);
    send_on(ctx, work, hook)
}

/// Where the flow leads. In a frame of its own: while a backend is chosen the stack has no
/// room for it.
#[inline(never)]
fn send_on(ctx: &TcContext, work: &Work, hook: Hook) -> Result<i32, Error> {
    if forward::is_too_long(ctx, work) {
        return Err(Error::TooLong);
    }
    flows::count(ctx, work);
    nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    forward::translated(ctx, hook, work)
}

/// In a frame of its own: the stack is short.
#[inline(never)]
fn not_ip(ctx: &TcContext) -> i32 {
    neighbour::answer(ctx).unwrap_or(PASS)
}

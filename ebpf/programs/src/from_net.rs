//! What comes from the network: the ingress of the node's uplinks.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vetch_ebpf_common::Site;

use crate::{
    access::is_for_us,
    dial, flows,
    forward::{self, Hook},
    masquerade, nat, neighbour,
    parse::{Kind, parse},
    ports::claim,
    tunnel, tunnel_error,
    verdict::{Error, PASS, verdict},
    work::work,
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
    tunnel::open(ctx, work)?;
    let known = flows::follow(ctx, work) && !tunnel::leads_elsewhere(work);
    if !known || masquerade::is_as_it_is(&work.flow) {
        if tunnel::is_open(work) {
            tunnel::plan(ctx, work)?;
        } else if let Some(pod) = forward::pod(&work.packet.dst) {
            if !known {
                masquerade::is_called(&work.packet);
            }
            return forward::to_pod(ctx, Hook::Net, &work.packet, pod);
        } else {
            dial::plan(ctx, work, Hook::Net)?;
        }
        claim(work)?;
    }
    if work.flow.is_direct() {
        return tunnel::wrap(ctx, work);
    }
    masquerade::is_answered(ctx, work);
    flows::count(ctx, work);
    nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    forward::translated(ctx, Hook::Net, work)
}

/// In a frame of its own: the stack is short.
#[inline(never)]
fn not_ip(ctx: &TcContext) -> i32 {
    neighbour::answer(ctx).unwrap_or(PASS)
}

//! What pods of this node send: the ingress of the node's side of their links.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vetch_ebpf_common::Site;

use crate::{
    access::is_for_us,
    dial::dial,
    flows,
    forward::{self, Hook},
    nat,
    parse::{Packet, parse},
    policy::{self, Translated},
    verdict::{Error, PASS, verdict},
    work::work,
};

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    verdict(&ctx, Site::FromPod, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    if !is_for_us(ctx) {
        return Ok(PASS);
    }
    if !may_send(ctx, &work.packet) {
        return Err(Error::Source);
    }
    let follows = flows::follow(ctx, work);
    if !follows {
        if let Some(pod) = forward::pod(&work.packet.dst) {
            policy::leaves(ctx, work, Translated::No)?;
            return forward::to_pod(ctx, Hook::Pod, &work.packet, pod);
        }
        match dial(ctx, work, Hook::Pod) {
            Err(Error::Pass) => {
                policy::leaves(ctx, work, Translated::No)?;
                return forward::to_peer(ctx, &work.packet);
            }
            dialled => dialled?,
        }
    } else if work.flow.is_outside() {
        // The node's uplinks rewrite it.
        policy::leaves(ctx, work, Translated::No)?;
        return Ok(PASS);
    }
    policy::leaves(ctx, work, Translated::Yes)?;
    if follows && forward::is_stuck(ctx, work) {
        return Ok(PASS);
    }
    flows::count(ctx, work);
    nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    forward::translated(ctx, Hook::Pod, work)
}

/// Whether a packet is not with another's address. IPv4's are the stack's to
/// judge, by its reverse path filter; it has none for IPv6.
#[inline(always)]
fn may_send(ctx: &TcContext, packet: &Packet) -> bool {
    packet.ip.v4 || packet.src.stays_on_link() || forward::is_behind(ctx, &packet.src)
}

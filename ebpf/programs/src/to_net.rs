//! What leaves for the network: the egress of the node's uplinks. Of the node
//! itself, answers of backends that are its processes; and what its processes
//! send to a service without that a socket hook changed it, because it is to
//! be dropped, or because it is SCTP. Of its pods, what goes out of the cluster.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vetch_ebpf_common::{Direction, Site, addresses};

use crate::{
    access::{came_by, ifindex},
    dial::dial,
    find, flows,
    forward::{self, Hook},
    masquerade, nat, next_hop,
    parse::parse,
    verdict::{Error, PASS, verdict},
    work::work,
};

#[classifier]
pub fn to_net(ctx: TcContext) -> i32 {
    verdict(&ctx, Site::ToNet, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let came_by = came_by(ctx);
    if came_by == ifindex(ctx) {
        next_hop::learn(ctx, came_by);
        return Ok(PASS);
    }
    if came_by != 0 {
        return masquerade::leaves(ctx, came_by);
    }
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    if flows::follow(ctx, work) {
        flows::count(ctx, work);
        nat::rewrite(ctx, &work.packet, &work.flow.to)?;
        if work.flow.direction() == Direction::Reply || work.flow.is_outside() {
            return Ok(PASS);
        }
    } else {
        if find::address(work.packet.dst) & addresses::SERVICE == 0 {
            return Ok(PASS);
        }
        dial(ctx, work, Hook::Node)?;
        flows::count(ctx, work);
        nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    }
    forward::translated(ctx, Hook::Node, work)
}

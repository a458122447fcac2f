//! What the node's stack sends to pods: the egress of the node's side of their
//! links. Answers of backends that are processes of the node, or that came
//! back through a masquerade of the stack's. Policies judge here what came by links
//! without programs, and what the stack carries between those with them again.

use aya_ebpf::{macros::classifier, programs::TcContext};
use vetch_ebpf_common::{Direction, Site};

use crate::{
    flows, nat,
    parse::parse,
    policy::{self, Translated},
    verdict::{Error, PASS, verdict},
    work::work,
};

#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    verdict(&ctx, Site::ToPod, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    let translated = if flows::follow(ctx, work) && work.flow.direction() == Direction::Reply {
        Translated::Yes
    } else {
        Translated::No
    };
    policy::arrives(ctx, work, translated)?;
    if translated == Translated::Yes {
        flows::count(ctx, work);
        nat::rewrite(ctx, &work.packet, &work.flow.to)?;
    }
    Ok(PASS)
}

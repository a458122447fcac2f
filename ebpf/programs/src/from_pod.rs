//! What pods of this node send: the ingress of the node's side of their links.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{
    forward::{self, From},
    parse::parse,
    verdict::{Error, PASS, verdict},
};

#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    verdict(&ctx, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let packet = parse(ctx)?;
    match forward::pod(packet.tuple.dst) {
        Some(pod) => forward::to_pod(ctx, From::Pod, &packet, pod),
        None => Ok(PASS),
    }
}

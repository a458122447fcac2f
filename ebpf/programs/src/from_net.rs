//! What comes from the network: the ingress of the node's uplinks.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{
    forward::{self, From},
    neighbour,
    parse::parse,
    verdict::{Error, PASS, verdict},
};

#[classifier]
pub fn from_net(ctx: TcContext) -> i32 {
    verdict(&ctx, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let packet = match parse(ctx) {
        Ok(packet) => packet,
        Err(Error::Pass) => return neighbour::answer(ctx).ok_or(Error::Pass),
        Err(error) => return Err(error),
    };
    match forward::pod(packet.tuple.dst) {
        Some(pod) => forward::to_pod(ctx, From::Net, &packet, pod),
        None => Ok(PASS),
    }
}

//! What leaves the node: the egress of its uplinks.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::verdict::PASS;

#[classifier]
pub fn to_net(_ctx: TcContext) -> i32 {
    PASS
}

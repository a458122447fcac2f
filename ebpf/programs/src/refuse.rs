//! Telling a client that nobody answers.

use aya_ebpf::{bindings::TC_ACT_SHOT, programs::TcContext};

#[inline(always)]
pub fn refuse(_ctx: &TcContext) -> i32 {
    TC_ACT_SHOT as i32
}

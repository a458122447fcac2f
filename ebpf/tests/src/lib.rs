//! Packets in, verdicts and packets out: the classifiers under
//! `BPF_PROG_TEST_RUN`, on a node of two pods and an uplink.

mod frame;
mod lab;

pub use frame::{Body, Fragment, Frame, Quote};
pub use lab::{DROP, Lab, Outcome, PASS, POD_1, POD_2, REDIRECT, Raw, UPLINK, ip, mac, peer_mac};

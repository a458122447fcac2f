//! Packets in, verdicts and packets out: the classifiers under
//! `BPF_PROG_TEST_RUN`, on a node of two pods and an uplink.

mod driver;
mod expect;
mod frame;
mod lab;
mod namespace;

pub use driver::pass_at_driver;
pub use expect::{At, To};
pub use frame::{Body, Fragment, Frame, Quote, opening, syn};
pub use lab::{
    DROP, Lab, NODE_V4, NODE_V6, Options, Outcome, PASS, POD_1, POD_2, REDIRECT, Raw, Service,
    UPLINK, XDP_PASS, XDP_TX, endpoint, ip, mac, peer_mac, tuple,
};
pub use namespace::{Namespace, ip_command, set_checksum_offload, set_receive_errors, sysctl};

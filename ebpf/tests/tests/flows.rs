//! How long a conversation keeps its backend, and what becomes of its entries.

use vetch_ebpf_common::{
    Protocol::{Tcp, Udp},
    State,
};
use vetch_ebpf_tests::{At, Frame, Lab, POD_1, POD_2, Service, To, endpoint, tuple};

const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const FIN: u8 = State::FIN;
const RST: u8 = State::RST;

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const CLIENT: &str = "10.1.0.1:40000";
const VIP: &str = "10.96.0.1:80";
const OLD: &str = "10.1.0.2:8080";
const NEW: &str = "10.1.0.3:8080";

fn lab() -> Lab {
    let mut lab = Lab::new();
    for (address, ifindex) in [
        ("10.1.0.1", POD_1),
        ("10.1.0.2", POD_2),
        ("10.1.0.3", POD_2),
    ] {
        lab.pod(address, ifindex, 0);
    }
    lab.simple_service(1, VIP, Tcp, OLD);
    lab.simple_service(1, VIP, Udp, OLD);
    lab.serving(1, OLD, true);
    lab
}

/// The service's only backend is another one now.
fn flip(lab: &mut Lab, generation: u32) {
    lab.service(&Service {
        number: 1,
        generation,
        cluster: &[NEW],
        ..Service::default()
    });
    lab.serving(1, NEW, true);
}

#[track_caller]
fn asks(lab: &Lab, flags: u8, backend: &str) {
    let frame = Frame::tcp(CLIENT, VIP, flags);
    let rewritten = frame.clone().dst(backend);
    lab.expect(ONE, "question", &frame, To::Pod(POD_2), &rewritten);
}

#[track_caller]
fn answers(lab: &Lab, flags: u8) {
    let frame = Frame::tcp(OLD, CLIENT, flags);
    let rewritten = frame.clone().src(VIP);
    lab.expect(TWO, "answer", &frame, To::Pod(POD_1), &rewritten);
}

#[track_caller]
fn sends(lab: &Lab, backend: &str) {
    let frame = Frame::udp(CLIENT, VIP);
    let rewritten = frame.clone().dst(backend);
    lab.expect(ONE, "datagram", &frame, To::Pod(POD_2), &rewritten);
}

#[test]
fn an_established_connection_keeps_its_backend() {
    let mut lab = lab();
    asks(&lab, SYN, OLD);
    answers(&lab, SYN | ACK);
    flip(&mut lab, 2);
    lab.serving(1, OLD, false);
    asks(&lab, ACK, OLD);
    asks(&lab, SYN, OLD);
    // While one end closes, and for as long as the other goes on.
    asks(&lab, FIN | ACK, OLD);
    answers(&lab, ACK);
    asks(&lab, ACK, OLD);
}

#[test]
fn a_port_used_again_gets_a_backend_anew() {
    for end in [FIN | ACK, RST] {
        let mut lab = lab();
        asks(&lab, SYN, OLD);
        answers(&lab, SYN | ACK);
        answers(&lab, end);
        flip(&mut lab, 2);
        asks(&lab, ACK, OLD);
        asks(&lab, SYN, NEW);
        assert_eq!(lab.flows().len(), 2, "the old halves are gone");
        let frame = Frame::tcp(OLD, CLIENT, ACK);
        lab.expect(TWO, "a late answer", &frame, To::Pod(POD_1), &frame);
    }
}

/// Of a question without answer: of other times a new machine has not seen the
/// end yet.
#[test]
fn a_port_used_after_its_time_gets_a_backend_anew() {
    let mut lab = lab();
    asks(&lab, SYN, OLD);
    flip(&mut lab, 1);
    lab.flows_age(119);
    asks(&lab, SYN, OLD);
    lab.flows_age(121);
    asks(&lab, SYN, NEW);
}

/// The backend that did not answer may be gone: nothing is lost with another.
#[test]
fn a_question_asked_again_goes_to_a_backend_that_is_there() {
    let mut lab = lab();
    asks(&lab, SYN, OLD);
    asks(&lab, SYN, OLD);
    flip(&mut lab, 2);
    asks(&lab, SYN, NEW);
    assert_eq!(lab.flows().len(), 2);
}

#[test]
fn datagrams_leave_a_backend_that_is_gone() {
    let mut lab = lab();
    sends(&lab, OLD);
    flip(&mut lab, 2);
    // In no list any more, but draining.
    sends(&lab, OLD);
    assert_eq!(lab.flow(&tuple(CLIENT, VIP, Udp)).generation, 2);
    assert_eq!(lab.flow(&tuple(OLD, CLIENT, Udp)).generation, 2);
    lab.serving(1, OLD, false);
    // Nobody has said that anything changed: the next change is one.
    sends(&lab, OLD);
    flip(&mut lab, 3);
    sends(&lab, NEW);
    assert_eq!(lab.flows().len(), 2);
}

#[test]
fn datagrams_after_a_pause_are_another_conversation() {
    let mut lab = lab();
    sends(&lab, OLD);
    flip(&mut lab, 2);
    lab.flows_age(29);
    sends(&lab, OLD);
    lab.flows_age(31);
    sends(&lab, NEW);
}

#[test]
fn entries_say_what_both_ends_said() {
    let mut lab = lab();
    let (there, back) = (tuple(CLIENT, VIP, Tcp), tuple(OLD, CLIENT, Tcp));
    asks(&lab, SYN, OLD);
    assert!(!lab.flow(&there).state.is_answered());
    answers(&lab, SYN | ACK);
    asks(&lab, FIN | ACK, OLD);
    for key in [&there, &back] {
        let state = lab.flow(key).state;
        assert!(state.is_answered() && state.is_closing() && !state.is_closed());
    }
    answers(&lab, FIN | ACK);
    for key in [&there, &back] {
        assert!(lab.flow(key).state.is_closed());
    }
}

/// Least recently used goes first, and it may be one half of a flow.
#[test]
fn either_half_brings_the_other_back() {
    let mut lab = lab();
    let (there, back) = (tuple(CLIENT, VIP, Tcp), tuple(OLD, CLIENT, Tcp));
    asks(&lab, SYN, OLD);
    answers(&lab, SYN | ACK);
    let (was_there, was_back) = (lab.flow(&there), lab.flow(&back));

    lab.drop_flow(back);
    asks(&lab, ACK, OLD);
    assert_eq!(lab.flows().len(), 1, "not looked for twice a second");
    lab.flows_age(1);
    asks(&lab, ACK, OLD);
    assert_eq!(lab.flow(&back).to, was_back.to);
    answers(&lab, ACK);

    lab.drop_flow(there);
    lab.flows_age(1);
    answers(&lab, ACK);
    assert_eq!(lab.flow(&there).to, was_there.to);
    flip(&mut lab, 2);
    asks(&lab, ACK, OLD);
    // At once, when there is something to say.
    lab.drop_flow(back);
    asks(&lab, FIN | ACK, OLD);
    assert_eq!(lab.flow(&back).to, was_back.to);
}

/// A packet of either end keeps both halves.
#[test]
fn the_silent_end_is_remembered() {
    let mut lab = lab();
    sends(&lab, OLD);
    let back = tuple(OLD, CLIENT, Udp);
    for _ in 0..3 {
        lab.flows_age(20);
        sends(&lab, OLD);
    }
    let frame = Frame::udp(OLD, CLIENT);
    let rewritten = frame.clone().src(VIP);
    lab.expect(TWO, "answer", &frame, To::Pod(POD_1), &rewritten);
    assert_eq!(lab.flow(&back).to.source(), endpoint(VIP));
}

/// The answers' entry has become another flow's, after this one was over.
#[test]
fn a_flow_whose_place_is_taken_ends() {
    let mut lab = lab();
    asks(&lab, SYN, OLD);
    let back = tuple(OLD, CLIENT, Tcp);
    let mut other = lab.flow(&back);
    other.to.src = endpoint("10.96.0.2:80").addr();
    lab.set_flow(back, other);
    lab.flows_age(1);
    flip(&mut lab, 2);
    asks(&lab, ACK, NEW);
    assert_eq!(lab.flow(&back).to, other.to);
}

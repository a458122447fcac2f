//! Where a packet is judged: behind a service, at its own node, by the stack.

use vetch_ebpf_common::{
    Peer, Pod,
    Protocol::{Tcp, Udp},
    Reason, Rule,
};
use vetch_ebpf_tests::{Frame, Outcome, PASS, POD_1, POD_2, To, UPLINK, syn, tuple};

use super::{IDENTITY, INTO_ONE, INTO_TWO, NET, ONE, SIDES, TWO, V4, egress, ingress, lab, passes};

#[test]
fn a_service_is_its_backend() {
    let mut lab = lab();
    for (number, side) in SIDES.into_iter().enumerate() {
        let number = number as u32 + 1;
        lab.simple_service(number, side.vip, Udp, side.server);
        let asked = Frame::udp(side.client, side.vip);
        let out = asked.clone().dst(side.server);
        lab.hold(side.one, 1, 2);
        lab.expect_dropped(ONE, "the backend is not let", &asked);
        lab.identity(side.two, 8);
        lab.let_port(egress(2), Peer::identity(8), Udp, 8080);
        lab.hold(side.two, 2, 1);
        lab.expect_dropped(ONE, "the backend does not let", &asked);
        lab.let_port(ingress(2), Peer::identity(IDENTITY), Udp, 8080);
        lab.expect(ONE, "both do", &asked, INTO_TWO, &out);
        let answer = Frame::udp(side.server, side.client);
        let seen = answer.clone().src(side.vip);
        lab.expect(TWO, "the answer", &answer, INTO_ONE, &seen);
        // The same by the stack, which is given what was rewritten.
        let outcome = lab.run_forwarded("to_pod", POD_2, POD_1, &seen);
        assert_eq!(outcome.verdict, PASS);
        for rule in [
            (egress(2), Peer::identity(8)),
            (ingress(2), Peer::identity(IDENTITY)),
        ] {
            let rule = Rule::new(rule.0, rule.1, Udp as u8, 8080_u16.to_be_bytes());
            lab.set_rule(Rule::PORT, rule, false);
        }
        lab.hold(side.one, 0, 0);
        lab.hold(side.two, 0, 0);
    }
}

#[test]
fn a_pod_by_itself_and_with_its_node() {
    let mut lab = lab();
    for (number, side) in SIDES.into_iter().enumerate() {
        lab.hold(side.one, 1, 1);
        passes(
            &lab,
            ONE,
            "to its node",
            &syn(side.client, side.node),
            To::Stack,
        );
        let probe = syn(side.node, side.client);
        let of_node: Outcome = lab.run("to_pod", POD_1, &probe);
        assert_eq!(of_node.verdict, PASS, "of its node");
        let forwarded = syn(side.outside, side.client);
        let of_others = lab.run_forwarded("to_pod", UPLINK, POD_1, &forwarded);
        assert_eq!(of_others.verdict, vetch_ebpf_tests::DROP);
        // By a service: with the node's address, that it does not answer itself.
        let own = side.client.replace("40000", "8080");
        lab.simple_service(number as u32 + 1, side.vip, Udp, &own);
        let asked = Frame::udp(side.client, side.vip);
        let outcome = lab.run("from_pod", POD_1, &asked);
        assert_eq!(outcome.verdict, vetch_ebpf_tests::REDIRECT, "to itself");
        // Through its link's queue, where it is looked at again.
        let port = lab.flow(&tuple(side.client, side.vip, Udp)).to.sport;
        let port = u16::from_be_bytes(port);
        for (port, verdict) in [(port, PASS), (port ^ 1, vetch_ebpf_tests::DROP)] {
            let node = side.node.replace("10250", &port.to_string());
            let queued = Frame::udp(&node, &own);
            let outcome = lab.run_forwarded("to_pod", POD_1, POD_1, &queued);
            assert_eq!(outcome.verdict, verdict, "as the node, from {port}");
        }
    }
}

#[test]
fn who_is_not_known_yet_waits() {
    let mut lab = lab();
    for side in SIDES {
        lab.set_pending(side.two);
        lab.expect_dropped(ONE, "to it", &syn(side.client, side.server));
        lab.expect_dropped(TWO, "of it", &syn(side.server, side.client));
        lab.expect_dropped(TWO, "of it", &syn(side.server, side.outside));
        lab.expect_dropped(NET, "to it", &syn(side.outside, side.server));
        passes(
            &lab,
            TWO,
            "to its node",
            &syn(side.server, side.node),
            To::Stack,
        );
        passes(
            &lab,
            ONE,
            "others",
            &syn(side.client, side.outside),
            To::Stack,
        );
    }
    assert_eq!(lab.reason(Reason::PolicyPending), 2 * 4);
}

/// A pod's packets by the stack are judged where they come out, and before they go in.
#[test]
fn by_the_stack() {
    let mut lab = lab();
    let side = V4;
    lab.pod("10.1.0.3", POD_2, Pod::BY_STACK);
    lab.hold("10.1.0.3", 1, 0);
    let asked = syn(side.client, "10.1.0.3:8080");
    lab.expect_dropped(ONE, "not let", &asked);
    lab.let_port(ingress(1), Peer::identity(IDENTITY), Tcp, 8080);
    passes(&lab, ONE, "let", &asked, To::Stack);
    let outcome = lab.run_forwarded("to_pod", POD_1, POD_2, &asked);
    assert_eq!(outcome.verdict, PASS);
    // What comes by a link without programs is judged there alone.
    let outcome = lab.run_forwarded("to_pod", UPLINK, POD_2, &syn(side.outside, "10.1.0.3:8080"));
    assert_eq!(outcome.verdict, vetch_ebpf_tests::DROP);
}

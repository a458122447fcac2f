//! Beside the uplink's one address: services outside, other uplinks, pods by the stack, halves of flows, policies.

use vetch_ebpf_common::{
    Peer, PolicyType,
    Protocol::{Tcp, Udp},
    Rule, RuleSet, State,
};
use vetch_ebpf_tests::{
    At, Body, DROP, Frame, NODE_V6, PASS, POD_1, POD_2, To, UPLINK, ip, opening, syn, tuple,
};

use super::{
    FAR, FAR6, INTO_ONE, NET, ONE, POD, POD6, UPLINK_2, error, expect_leaves, host, icmp_tuple,
    lab, leave, seen,
};

/// A service whose backend is out there: the answer is the service's.
#[test]
fn a_services_backend_outside() {
    let mut lab = lab();
    let vip = "10.96.0.1:80";
    for protocol in [Tcp, Udp] {
        lab.simple_service(1, vip, protocol, FAR);
        lab.serving(1, FAR, true);
        let dialled = opening(protocol, POD, vip);
        let to_backend = opening(protocol, POD, FAR);
        lab.expect(ONE, "at the pod", &dialled, To::Stack, &to_backend);
        leave(&lab, &to_backend);
        let as_node = seen(&mut lab, &tuple(POD, FAR, protocol));
        let back = opening(protocol, FAR, &as_node);
        let answer = opening(protocol, vip, POD);
        lab.expect(NET, "the answer", &back, INTO_ONE, &answer);
        let unreachable = error(
            &host(FAR),
            &host(&as_node),
            &to_backend.clone().src(&as_node),
            [3, 3],
            0,
        );
        let told = error(&host(vip), &host(POD), &dialled, [3, 3], 0);
        lab.expect(NET, "an error", &unreachable, INTO_ONE, &told);
    }
}

/// The stack routes, so it says by which link; answers may come by any.
#[test]
fn each_uplink_has_its_address() {
    let mut lab = lab();
    lab.sources(UPLINK, &["192.0.2.31", "2001:db8:31::1"]);
    lab.sources(UPLINK_2, &["192.0.2.21"]);
    for (pod, far, link, source) in [
        ("10.1.0.1:1", FAR, UPLINK, "192.0.2.31"),
        ("10.1.0.1:2", FAR, UPLINK_2, "192.0.2.21"),
        ("[fd00::1]:1", FAR6, UPLINK, "2001:db8:31::1"),
        // One that has none of the family.
        ("[fd00::1]:2", FAR6, UPLINK_2, NODE_V6),
    ] {
        let out = syn(pod, far);
        lab.run_forwarded("to_net", POD_1, link, &out);
        let to = lab.flow(&tuple(pod, far, Tcp)).to;
        assert_eq!(to.src, ip(source), "{pod}");
        let port = u16::from_be_bytes(to.sport);
        let node = match ip(source).is_v4() {
            true => format!("{source}:{port}"),
            false => format!("[{source}]:{port}"),
        };
        let back = syn(far, &node);
        for by in [UPLINK, UPLINK_2] {
            lab.expect(
                At("from_net", by),
                pod,
                &back,
                INTO_ONE,
                &back.clone().dst(pod),
            );
        }
    }
}

#[test]
fn pods_by_the_stack() {
    let mut lab = lab();
    let pod = "10.1.0.3:40000";
    let out = syn(pod, FAR);
    lab.run_forwarded("to_net", POD_2, UPLINK, &out);
    let as_node = seen(&mut lab, &tuple(pod, FAR, Tcp));
    let back = syn(FAR, &as_node);
    let answer = back.clone().dst(pod);
    lab.expect(NET, "back", &back, To::Stack, &answer);
    lab.expect_untouched(At("to_pod", POD_2), "to the pod", &answer);
}

/// Whichever half is left brings the other back.
#[test]
fn half_a_flow_is_enough() {
    let mut lab = lab();
    let out = syn(POD, FAR);
    leave(&lab, &out);
    let key = tuple(POD, FAR, Tcp);
    let as_node = seen(&mut lab, &key);
    let back = Frame::tcp(FAR, &as_node, State::SYN | State::ACK);
    lab.flows_age(2);
    lab.drop_flow(key);
    lab.expect(NET, "back", &back, INTO_ONE, &back.clone().dst(POD));
    let next = Frame::tcp(POD, FAR, State::ACK);
    lab.flows_age(2);
    lab.drop_flow(tuple(FAR, &as_node, Tcp));
    expect_leaves(&lab, "out", &next, &next.clone().src(&as_node));
    lab.expect(NET, "back", &back, INTO_ONE, &back.clone().dst(POD));
    assert_eq!(lab.flows().len(), 2);
}

/// A frame that pretends to come from a pod goes nowhere as the node.
#[test]
fn a_pods_address_from_the_network() {
    let lab = lab();
    let out = syn(POD, FAR);
    leave(&lab, &out);
    lab.expect_untouched(NET, "a pod's address", &out);
}

/// What policies let pass is what the pod says and hears, not what its node makes of
/// that.
#[test]
fn policies_see_the_pod() {
    const BLOCK: u32 = 3;
    let mut lab = lab();
    let egress = RuleSet::new(PolicyType::Egress, 1).unwrap();
    lab.block("203.0.113.0", 120, BLOCK);
    lab.block("2001:db8:7::", 48, BLOCK);
    let stack = "10.1.0.3:40000";
    for (pod, ip, far, link) in [
        (POD, "10.1.0.1", FAR, POD_1),
        (POD6, "fd00::1", FAR6, POD_1),
        (stack, "10.1.0.3", FAR, POD_2),
    ] {
        lab.hold(ip, 1, 1);
        let at = At("from_pod", link);
        for protocol in [Tcp, Udp] {
            let rule = Rule::new(
                egress,
                Peer::block(BLOCK),
                protocol as u8,
                443_u16.to_be_bytes(),
            );
            let out = opening(protocol, pod, far);
            lab.expect_dropped(at, "not let", &out);
            lab.set_rule(Rule::PORT, rule, true);
            lab.expect_untouched(at, "let", &out);
            lab.run_forwarded("to_net", link, UPLINK, &out);
            let as_node = seen(&mut lab, &tuple(pod, far, protocol));
            lab.expect_untouched(at, "when it is known", &out);
            let back = match protocol {
                Tcp => Frame::tcp(far, &as_node, State::SYN | State::ACK),
                other => opening(other, far, &as_node),
            };
            let heard = back.clone().dst(pod);
            let to = if pod == stack { To::Stack } else { INTO_ONE };
            lab.expect(NET, "the answer", &back, to, &heard);
            let by_stack = lab.run_forwarded("to_pod", UPLINK, link, &heard);
            assert_eq!(by_stack.verdict, PASS, "the answer, by the stack");
            // One conversation, whichever way it is seen.
            let other = opening(protocol, &far.replace(":443", ":9"), pod);
            let by_stack = lab.run_forwarded("to_pod", UPLINK, link, &other);
            assert_eq!(by_stack.verdict, DROP, "another");
            lab.set_rule(Rule::PORT, rule, false);
            lab.conversations_age(3);
            lab.expect_dropped(NET, "the answer, not let any more", &back);
            let by_stack = lab.run_forwarded("to_pod", UPLINK, link, &heard);
            assert_eq!(by_stack.verdict, DROP, "nor by the stack");
            lab.expect_dropped(at, "nor out", &out);
        }
        lab.hold(ip, 0, 0);
    }
    // An echo is a conversation by its number.
    lab.hold("10.1.0.1", 1, 1);
    lab.set_rule(
        Rule::ALL,
        Rule::new(egress, Peer::block(BLOCK), 0, [0; 2]),
        true,
    );
    let (pod, far) = ("10.1.0.1:4660", "203.0.113.7:0");
    let out = Frame::new(pod, far, Body::Echo);
    lab.expect_untouched(ONE, "a ping", &out);
    leave(&lab, &out);
    let as_node = seen(&mut lab, &icmp_tuple(pod, far));
    let back = Frame::new(far, &as_node, Body::EchoAnswer);
    lab.expect(NET, "its answer", &back, INTO_ONE, &back.clone().dst(pod));
    let asks = Frame::new("203.0.113.7:4660", "10.1.0.1:0", Body::Echo);
    lab.expect_dropped(NET, "another's ping", &asks);
    let unasked = Frame::new(far, "10.1.0.1:4661", Body::EchoAnswer);
    lab.expect_dropped(NET, "of another number", &unasked);
}

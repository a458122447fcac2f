//! What pods send out of the cluster, at the uplink that it leaves by, and what
//! comes back.

use vetch_ebpf_common::{
    Peer, Pod, PolicyType,
    Protocol::{self, Tcp, Udp},
    Reason, Rule, RuleSet, State, Tuple,
};
use vetch_ebpf_tests::{
    At, Body, DROP, Fragment, Frame, Lab, NODE_V4, NODE_V6, Options, Outcome, PASS, POD_1, POD_2,
    Quote, To, UPLINK, endpoint, ip, opening, syn, tuple,
};

const NET: At = At("from_net", UPLINK);
const ONE: At = At("from_pod", POD_1);
const INTO_ONE: To = To::Pod(POD_1);
/// Of a second one.
const UPLINK_2: u32 = POD_2;

const POD: &str = "10.1.0.1:40000";
const FAR: &str = "203.0.113.7:443";
const POD6: &str = "[fd00::1]:40000";
const FAR6: &str = "[2001:db8:7::7]:443";

fn options() -> Options {
    Options {
        masquerade: true,
        ..Options::default()
    }
}

fn lab() -> Lab {
    lab_of(options())
}

fn lab_of(options: Options) -> Lab {
    let mut lab = Lab::with(options);
    for (address, ifindex, flags) in [
        ("10.1.0.1", POD_1, 0),
        ("fd00::1", POD_1, 0),
        ("10.1.0.2", POD_2, 0),
        ("fd00::2", POD_2, 0),
        ("10.1.0.3", POD_2, Pod::BY_STACK),
    ] {
        lab.pod(address, ifindex, flags);
    }
    lab.own_addresses();
    // The cluster's.
    for (range, prefix) in [("10.0.0.0", 104), ("fd00::", 32), (NODE_V4, 120)] {
        lab.non_masquerade(range, prefix);
    }
    lab
}

fn leave(lab: &Lab, frame: &Frame) -> Outcome {
    lab.run_forwarded("to_net", POD_1, UPLINK, frame)
}

#[track_caller]
fn expect_leaves(lab: &Lab, description: &str, frame: &Frame, rewritten: &Frame) {
    let expected = Outcome {
        verdict: PASS,
        bytes: rewritten.bytes(),
    };
    assert_eq!(leave(lab, frame), expected, "{description}");
}

#[track_caller]
fn expect_as_it_is(lab: &Lab, description: &str, frame: &Frame) {
    expect_leaves(lab, description, frame, frame);
}

#[track_caller]
fn expect_stays(lab: &Lab, description: &str, frame: &Frame) {
    assert_eq!(leave(lab, frame).verdict, DROP, "{description}");
}

/// As whom the pod's packets are seen.
#[track_caller]
fn seen(lab: &mut Lab, key: &Tuple) -> String {
    let to = lab.flow(key).to;
    let node = if to.src == ip(NODE_V4) {
        NODE_V4.to_owned()
    } else {
        assert_eq!(to.src, ip(NODE_V6));
        format!("[{NODE_V6}]")
    };
    let port = u16::from_be_bytes(to.sport);
    assert!(port >= 61000, "{port}");
    format!("{node}:{port}")
}

fn icmp_tuple(src: &str, dst: &str) -> Tuple {
    let protocol = if src.starts_with('[') { 58 } else { 1 };
    Tuple::new(endpoint(src), endpoint(dst), protocol)
}

fn host(endpoint: &str) -> String {
    let (host, _) = endpoint.rsplit_once(':').unwrap();
    format!("{host}:0")
}

#[test]
fn there_and_back() {
    let mut lab = lab();
    for (pod, far) in [(POD, FAR), (POD6, FAR6)] {
        for protocol in [Tcp, Udp] {
            let out = opening(protocol, pod, far);
            lab.expect_untouched(ONE, "at the pod", &out);
            let as_node = {
                leave(&lab, &out);
                seen(&mut lab, &tuple(pod, far, protocol))
            };
            for time in ["again", "and again"] {
                lab.expect_untouched(ONE, "at the pod, when it is known", &out);
                expect_leaves(&lab, time, &out, &out.clone().src(&as_node));
                let back = opening(protocol, far, &as_node);
                lab.expect(NET, time, &back, INTO_ONE, &back.clone().dst(pod));
            }
        }
    }
    assert_eq!(lab.flows().len(), 2 * 4);
    for reason in Reason::ALL {
        assert_eq!(lab.reason(*reason), 0, "{reason:?}");
    }
}

#[test]
fn checksums_of_all_kinds() {
    let mut lab = lab();
    let table = [
        (
            "payload",
            Frame::new(
                POD,
                FAR,
                Body::Tcp {
                    flags: State::ACK,
                    payload: 1001,
                },
            ),
        ),
        (
            "options",
            Frame {
                options: vec![1; 40],
                ..syn(POD, FAR)
            },
        ),
        (
            "extension headers",
            Frame {
                extensions: vec![(0, 16), (60, 264)],
                ..syn(POD6, FAR6)
            },
        ),
        (
            "no UDP checksum",
            Frame::new(POD, FAR, Body::UdpUnchecked { payload: 5 }),
        ),
    ];
    for (pod, far) in [(POD, FAR), (POD6, FAR6)] {
        for protocol in [Tcp, Udp] {
            leave(&lab, &opening(protocol, pod, far));
        }
    }
    for (description, frame) in table {
        let protocol = match frame.body {
            Body::Tcp { .. } => Tcp,
            _ => Udp,
        };
        let (pod, far) = (frame.src.to_string(), frame.dst.to_string());
        let as_node = seen(&mut lab, &tuple(&pod, &far, protocol));
        expect_leaves(&lab, description, &frame, &frame.clone().src(&as_node));
    }
}

/// A port of the range is kept if nobody else has it there.
#[test]
fn ports_of_the_range() {
    let mut lab = lab();
    let (one, two) = ("10.1.0.1:62000", "10.1.0.2:62000");
    leave(&lab, &syn(one, FAR));
    assert_eq!(
        seen(&mut lab, &tuple(one, FAR, Tcp)),
        format!("{NODE_V4}:62000")
    );
    lab.run_forwarded("to_net", POD_2, UPLINK, &syn(two, FAR));
    let other = seen(&mut lab, &tuple(two, FAR, Tcp));
    assert_ne!(other, format!("{NODE_V4}:62000"));
    let back = syn(FAR, &other);
    lab.expect(
        NET,
        "the other's",
        &back,
        To::Pod(POD_2),
        &back.clone().dst(two),
    );
}

/// With one port: a flow that lives keeps it, one that is closed gives it away.
#[test]
fn no_port_is_used_twice() {
    let mut lab = lab_of(Options {
        ports: (61000, 61000),
        ..options()
    });
    let other = "10.1.0.1:40001";
    let elsewhere = "203.0.113.8:443";
    let node = format!("{NODE_V4}:61000");
    for protocol in [Tcp, Udp] {
        let first = opening(protocol, POD, FAR);
        expect_leaves(&lab, "first", &first, &first.clone().src(&node));
        expect_stays(&lab, "second", &opening(protocol, other, FAR));
        let there = opening(protocol, other, elsewhere);
        expect_leaves(&lab, "to another host", &there, &there.clone().src(&node));
    }
    assert_eq!(lab.reason(Reason::SourcePorts), 2);
    // An open connection and a fresh conversation are not over.
    lab.run(
        "from_net",
        UPLINK,
        &Frame::tcp(FAR, &node, State::SYN | State::ACK),
    );
    lab.flows_age(29);
    expect_stays(&lab, "of TCP", &syn(other, FAR));
    expect_stays(&lab, "of UDP", &Frame::udp(other, FAR));
    assert_eq!(lab.reason(Reason::SourcePorts), 4);
    // An unanswered question is, after its time; and a connection after its end.
    lab.flows_age(2);
    let again = Frame::udp(other, FAR);
    expect_leaves(&lab, "of UDP, later", &again, &again.clone().src(&node));
    lab.run("from_net", UPLINK, &Frame::tcp(FAR, &node, State::RST));
    let again = syn(other, FAR);
    expect_leaves(
        &lab,
        "of TCP, after a reset",
        &again,
        &again.clone().src(&node),
    );
}

#[test]
fn echoes() {
    let mut lab = lab();
    for (pod, far) in [
        ("10.1.0.1:4660", "203.0.113.7:0"),
        ("[fd00::1]:4660", "[2001:db8:7::7]:0"),
        ("10.1.0.1:0", "203.0.113.7:0"),
    ] {
        let out = Frame::new(pod, far, Body::Echo);
        lab.expect_untouched(ONE, "at the pod", &out);
        leave(&lab, &out);
        let as_node = seen(&mut lab, &icmp_tuple(pod, far));
        for time in ["again", "and again"] {
            expect_leaves(&lab, time, &out, &out.clone().src(&as_node));
            let back = Frame::new(far, &as_node, Body::EchoAnswer);
            lab.expect(NET, time, &back, INTO_ONE, &back.clone().dst(pod));
        }
        // The node's own.
        let back = Frame::new(far, &as_node.replace(":6", ":1"), Body::EchoAnswer);
        lab.expect_untouched(NET, "of another number", &back);
    }
    // Who asks the pod itself is answered by it.
    let answer = Frame::new("10.1.0.1:0", "203.0.113.9:99", Body::EchoAnswer);
    expect_as_it_is(&lab, "an answer", &answer);
    assert_eq!(lab.flows().len(), 6);
}

#[test]
fn sctp_where_the_port_stays() {
    let mut lab = lab();
    let out = Frame::new(POD, FAR, Body::Sctp);
    let node = format!("{NODE_V4}:40000");
    expect_leaves(&lab, "first", &out, &out.clone().src(&node));
    let back = Frame::new(FAR, &node, Body::Sctp);
    lab.expect(NET, "back", &back, INTO_ONE, &back.clone().dst(POD));
    let other = Frame::new("10.1.0.2:40000", FAR, Body::Sctp);
    let outcome = lab.run_forwarded("to_net", POD_2, UPLINK, &other);
    assert_eq!(outcome.verdict, DROP);
    assert_eq!(lab.reason(Reason::Unsupported), 1);
    assert_eq!(lab.flows().len(), 2);
}

#[test]
fn whom_it_does_not_concern() {
    let mut lab = lab();
    lab.non_masquerade("198.51.100.0", 120);
    lab.non_masquerade("2001:db8:a::", 48);
    for (description, dst) in [
        ("another node's pod", "10.2.0.7:80"),
        ("a node", "192.168.0.77:80"),
        ("excluded", "198.51.100.9:80"),
    ] {
        for protocol in [Tcp, Udp] {
            expect_as_it_is(&lab, description, &opening(protocol, POD, dst));
        }
        let host = dst.replace(":80", ":0");
        expect_as_it_is(&lab, description, &Frame::new(POD, &host, Body::Echo));
    }
    expect_as_it_is(&lab, "excluded", &syn(POD6, "[2001:db8:a::1]:80"));
    // Not behind the link that it came by; nobody's here; another protocol.
    expect_as_it_is(&lab, "another pod's", &syn("10.1.0.2:40000", FAR));
    expect_as_it_is(&lab, "forwarded", &syn("10.2.0.7:40000", FAR));
    let other = Frame::new(POD, FAR, Body::Other { protocol: 47 });
    expect_as_it_is(&lab, "without ports", &other);
    // What goes through, and what is the node's own.
    for came_by in [UPLINK, 0] {
        let frame = syn(POD, FAR);
        let outcome = lab.run_forwarded("to_net", came_by, UPLINK, &frame);
        assert_eq!((outcome.verdict, outcome.bytes), (PASS, frame.bytes()));
    }
    assert_eq!(lab.flows().len(), 0);
}

#[test]
fn without_it_nothing_changes() {
    let mut lab = lab_of(Options::default());
    for frame in [syn(POD, FAR), Frame::udp(POD6, FAR6)] {
        expect_as_it_is(&lab, "off", &frame);
    }
    lab.expect(
        NET,
        "a datagram for a pod",
        &Frame::udp(FAR, POD),
        INTO_ONE,
        &Frame::udp(FAR, POD),
    );
    assert_eq!(lab.flows().len(), 0);
}

/// A host outside that has a route to pods and dials one.
#[test]
fn who_dialled_a_pod_is_answered_by_it() {
    let mut lab = lab();
    let accept = Frame::tcp(POD, FAR, State::SYN | State::ACK);
    expect_as_it_is(&lab, "TCP", &accept);
    expect_as_it_is(&lab, "TCP", &Frame::tcp(POD, FAR, State::ACK));
    expect_as_it_is(&lab, "TCP", &Frame::tcp(POD, FAR, State::RST));
    assert_eq!(lab.flows().len(), 0);
    for (pod, far) in [(POD, FAR), (POD6, FAR6)] {
        let (question, answer) = (Frame::udp(far, pod), Frame::udp(pod, far));
        for time in ["first", "next"] {
            lab.expect(NET, time, &question, INTO_ONE, &question);
            lab.expect_untouched(ONE, time, &answer);
            expect_as_it_is(&lab, time, &answer);
        }
    }
    assert_eq!(lab.flows().len(), 4);
    // Of the cluster, nothing need be known.
    let inside = Frame::udp("10.2.0.7:53", POD);
    lab.expect(NET, "from the cluster", &inside, INTO_ONE, &inside);
    assert_eq!(lab.flows().len(), 4);
    // Nobody has dialled for two minutes: what comes now the pod has begun.
    lab.flows_age(121);
    leave(&lab, &Frame::udp(POD, FAR));
    assert_eq!(lab.sweep().expired, 1);
}

#[test]
fn fragments() {
    let mut lab = lab();
    let piece = |src: &str, dst: &str, body, id, offset| Frame {
        fragment: Some(Fragment {
            id,
            offset,
            more: offset == 0,
        }),
        ..Frame::new(src, dst, body)
    };
    let raw = |protocol| Body::Raw {
        protocol,
        payload: 24,
    };
    for (pod, far, first, protocol) in [
        (POD, FAR, Body::Udp { payload: 16 }, 17),
        (POD6, FAR6, Body::Udp { payload: 16 }, 17),
        ("10.1.0.1:4660", "203.0.113.7:0", Body::Echo, 1),
        ("[fd00::1]:4660", "[2001:db8:7::7]:0", Body::Echo, 58),
    ] {
        let out = piece(pod, far, first.clone(), 7, 0);
        leave(&lab, &out);
        let key = Tuple::new(endpoint(pod), endpoint(far), protocol);
        let as_node = seen(&mut lab, &key);
        expect_leaves(&lab, "first", &out, &out.clone().src(&as_node));
        let out = piece(pod, far, raw(protocol), 7, 24);
        expect_leaves(&lab, "later", &out, &out.clone().src(&as_node));
        let answer = match first {
            Body::Echo => Body::EchoAnswer,
            other => other,
        };
        let back = piece(far, &as_node, answer, 9, 0);
        lab.expect(NET, "first back", &back, INTO_ONE, &back.clone().dst(pod));
        let back = piece(far, &as_node, raw(protocol), 9, 24);
        lab.expect(NET, "later back", &back, INTO_ONE, &back.clone().dst(pod));
        expect_stays(
            &lab,
            "before its first",
            &piece(pod, far, raw(protocol), 8, 24),
        );
    }
    assert_eq!(lab.reason(Reason::Fragment), 4);
    // Of a protocol without ports there is nothing to wait for.
    expect_as_it_is(&lab, "another protocol", &piece(POD, FAR, raw(47), 8, 24));
}

fn error(from: &str, to: &str, quoted: &Frame, kind: [u8; 2], rest: u32) -> Frame {
    let body = Body::Error {
        kind: kind[0],
        code: kind[1],
        rest,
        quoted: Box::new(Quote {
            frame: quoted.clone(),
            bytes: 64,
        }),
    };
    Frame::new(from, to, body)
}

/// By routers on the way, by the host, and by the pod about what it gets.
#[test]
fn errors() {
    let mut lab = lab();
    for (pod, far, router, first, kinds) in [
        (
            POD,
            FAR,
            "198.51.100.1:0",
            opening as fn(Protocol, &str, &str) -> Frame,
            [[3, 4], [11, 0], [3, 3]],
        ),
        (
            POD6,
            FAR6,
            "[2001:db8:1::1]:0",
            opening,
            [[2, 0], [3, 0], [1, 4]],
        ),
    ] {
        for protocol in [Tcp, Udp] {
            let sent = first(protocol, pod, far);
            leave(&lab, &sent);
            let as_node = seen(&mut lab, &tuple(pod, far, protocol));
            let out = sent.clone().src(&as_node);
            for kind in kinds {
                for from in [router, &host(far)] {
                    let told = error(from, &host(&as_node), &out, kind, 1280);
                    let rewritten = error(from, &host(pod), &sent, kind, 1280);
                    lab.expect(NET, "about a question", &told, INTO_ONE, &rewritten);
                }
            }
            let got = first(protocol, far, pod);
            let came = first(protocol, far, &as_node);
            let told = error(&host(pod), &host(far), &got, kinds[2], 0);
            let rewritten = error(&host(&as_node), &host(far), &came, kinds[2], 0);
            lab.expect_untouched(ONE, "about an answer, at the pod", &told);
            expect_leaves(&lab, "about an answer", &told, &rewritten);
        }
    }
    // A traceroute by echoes.
    for (pod, far, router, kind) in [
        ("10.1.0.1:77", "203.0.113.7:0", "198.51.100.1:0", [11, 0]),
        (
            "[fd00::1]:77",
            "[2001:db8:7::7]:0",
            "[2001:db8:1::1]:0",
            [3, 0],
        ),
    ] {
        let sent = Frame::new(pod, far, Body::Echo);
        leave(&lab, &sent);
        let as_node = seen(&mut lab, &icmp_tuple(pod, far));
        let out = sent.clone().src(&as_node);
        let told = error(router, &host(&as_node), &out, kind, 0);
        let rewritten = error(router, &host(pod), &sent, kind, 0);
        lab.expect(NET, "about an echo", &told, INTO_ONE, &rewritten);
    }
}

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

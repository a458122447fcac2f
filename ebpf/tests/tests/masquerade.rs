//! What pods send out of the cluster, at the uplink that it leaves by, and what
//! comes back.

mod around;
mod pieces;

use vetch_ebpf_common::{
    Pod,
    Protocol::{Tcp, Udp},
    Reason, State, Tuple,
};
use vetch_ebpf_tests::{
    At, Body, DROP, Frame, Lab, NODE_V4, NODE_V6, Options, Outcome, PASS, POD_1, POD_2, Quote, To,
    UPLINK, endpoint, ip, opening, syn, tuple,
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

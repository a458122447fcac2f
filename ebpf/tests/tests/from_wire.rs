//! Before the stack: what goes back out by the link it came by, and what is left
//! to `from_net` as it is.

use vetch_ebpf_common::{
    Frontend,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, State, Terms, addresses,
};
use vetch_ebpf_tests::{
    At, Body, Fragment, Frame, Lab, Outcome, POD_1, POD_2, Quote, Service, To, UPLINK, XDP_PASS,
    XDP_TX, ip, mac, peer_mac, syn, tuple,
};

const ACK: u8 = State::ACK;
const WIRE: &str = "from_wire";
const NET: At = At("from_net", UPLINK);

/// Ports of the range that sources are given: they are kept.
const CLIENT: &str = "192.0.2.1:61234";
const CLIENT6: &str = "[2001:db8::1]:61234";
const NODE_PORT: &str = "192.168.0.10:30080";
const NODE_PORT6: &str = "[fd00:ff::10]:30080";
const AS_NODE: &str = "192.168.0.10:61234";
const AS_NODE6: &str = "[fd00:ff::10]:61234";
const FAR: &str = "10.2.0.7:8080";
const FAR6: &str = "[fd01::7]:8080";
const HERE: &str = "10.1.0.2:8080";
const VIP: &str = "198.51.100.1:80";

const ROUTER: [u8; 6] = [2, 0, 0, 0, 9, 1];
const OTHER_NODE: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// How many clients of a service-port were sent to a backend, and how many
/// refused.
fn clients(lab: &Lab, service: u32) -> (u64, u64) {
    let traffic = lab.traffic(service);
    (traffic.connections, traffic.refused)
}

/// What they and their backends sent, in bytes.
fn bytes(lab: &Lab, service: u32) -> (u64, u64) {
    let traffic = lab.traffic(service);
    (traffic.bytes_in, traffic.bytes_out)
}

/// Without the link header.
fn len(frame: &Frame) -> u64 {
    frame.bytes().len() as u64 - 14
}

/// Where everybody is, is known.
fn lab() -> Lab {
    let mut lab = Lab::with_one_uplink();
    for (address, hop) in [
        ("192.0.2.1", ROUTER),
        ("2001:db8::1", ROUTER),
        ("10.2.0.7", OTHER_NODE),
        ("fd01::7", OTHER_NODE),
    ] {
        lab.next_hop(address, hop, UPLINK);
    }
    node(lab)
}

fn node(mut lab: Lab) -> Lab {
    lab.pod("10.1.0.1", POD_1, 0);
    lab.pod("10.1.0.2", POD_2, 0);
    lab.own_addresses();
    lab.address("198.51.100.1", addresses::SERVICE);
    lab.uplink(UPLINK, 1500);
    for (number, any, backend) in [(1, "0.0.0.0:30080", FAR), (2, "[::]:30080", FAR6)] {
        for protocol in [Tcp, Udp, Sctp] {
            lab.simple_service(number, any, protocol, backend);
            lab.frontend(any, protocol, number, Frontend::EXTERNAL);
        }
    }
    lab
}

fn arrived(frame: &Frame) -> Frame {
    frame.clone().macs(mac(UPLINK), peer_mac(UPLINK))
}

/// Out again, to `hop`, one hop older.
#[track_caller]
fn turns(lab: &Lab, what: &str, frame: &Frame, hop: [u8; 6], rewritten: &Frame) {
    let expected = Frame {
        ttl: rewritten.ttl - 1,
        ..rewritten.clone().macs(hop, mac(UPLINK))
    };
    let outcome = lab.run(WIRE, UPLINK, &arrived(frame));
    let expected = Outcome {
        verdict: XDP_TX,
        bytes: expected.bytes(),
    };
    assert_eq!(outcome, expected, "{what}");
}

#[track_caller]
fn passes_bytes(lab: &Lab, what: &str, ifindex: u32, bytes: &[u8]) {
    let outcome = lab.run_bytes(WIRE, ifindex, bytes);
    let expected = Outcome {
        verdict: XDP_PASS,
        bytes: bytes.to_vec(),
    };
    assert_eq!(outcome, expected, "{what}");
}

#[track_caller]
fn passes(lab: &Lab, what: &str, frame: &Frame) {
    passes_bytes(lab, what, UPLINK, &arrived(frame).bytes());
}

fn counted(lab: &Lab) -> Vec<(Reason, u64)> {
    let all = Reason::ALL
        .iter()
        .map(|reason| (*reason, lab.reason(*reason)));
    all.filter(|(_, count)| *count != 0).collect()
}

type Case = (&'static str, fn(&str, &str) -> Frame);

const COMMON: [Case; 6] = [
    ("syn", syn),
    ("data", |src, dst| {
        Frame::new(
            src,
            dst,
            Body::Tcp {
                flags: ACK,
                payload: 1001,
            },
        )
    }),
    ("datagram", Frame::udp),
    ("a datagram without a checksum", |src, dst| {
        Frame::new(src, dst, Body::UdpUnchecked { payload: 3 })
    }),
    ("the longest", |src, dst| {
        let headers = if src.starts_with('[') { 60 } else { 40 };
        let payload = 1500 - headers;
        Frame::new(
            src,
            dst,
            Body::Tcp {
                flags: ACK,
                payload,
            },
        )
    }),
    ("the last hop", |src, dst| Frame {
        ttl: 2,
        ..syn(src, dst)
    }),
];

/// Each packet by one program and then by the other: it is one path.
#[test]
fn there_and_back_as_by_the_stack() {
    for (client, at, node, backend) in [
        (CLIENT, NODE_PORT, AS_NODE, FAR),
        (CLIENT6, NODE_PORT6, AS_NODE6, FAR6),
    ] {
        let mut lab = lab();
        let service = if client == CLIENT { 1 } else { 2 };
        let mut sent = (0, 0);
        for (what, frame) in COMMON {
            let (out, rewritten) = (frame(client, at), frame(node, backend));
            turns(&lab, what, &out, OTHER_NODE, &rewritten);
            lab.expect(NET, what, &out, To::Link, &rewritten);
            let (back, rewritten) = (frame(backend, node), frame(at, client));
            turns(&lab, what, &back, ROUTER, &rewritten);
            lab.expect(NET, what, &back, To::Link, &rewritten);
            sent.0 += 2 * len(&out);
            sent.1 += 2 * len(&back);
        }
        assert_eq!(bytes(&lab, service), sent);
        // Both halves, of TCP and of UDP.
        assert_eq!(lab.flows().len(), 4);
        assert!(lab.flows().values().all(|flow| flow.link == UPLINK));
        assert_eq!(clients(&lab, service), (2, 0));
        assert_eq!(counted(&lab), []);
    }
}

#[test]
fn options_and_extension_headers() {
    let lab = lab();
    let with_options = |frame: Frame| Frame {
        options: vec![1; 12],
        ..frame
    };
    let with_extensions = |frame: Frame| Frame {
        extensions: vec![(0, 8), (60, 24)],
        ..frame
    };
    turns(
        &lab,
        "options",
        &with_options(syn(CLIENT, NODE_PORT)),
        OTHER_NODE,
        &with_options(syn(AS_NODE, FAR)),
    );
    turns(
        &lab,
        "extensions",
        &with_extensions(syn(CLIENT6, NODE_PORT6)),
        OTHER_NODE,
        &with_extensions(syn(AS_NODE6, FAR6)),
    );
}

/// A load balancer's address, whose flows may begin in the stack.
#[test]
fn flows_of_from_net_are_followed() {
    let mut lab = lab();
    lab.simple_service(3, VIP, Tcp, FAR);
    lab.frontend(VIP, Tcp, 3, Frontend::EXTERNAL);
    let out = syn(CLIENT, VIP);
    lab.expect(NET, "first", &out, To::Link, &syn(AS_NODE, FAR));
    turns(&lab, "next", &out, OTHER_NODE, &syn(AS_NODE, FAR));
    turns(&lab, "back", &syn(FAR, AS_NODE), ROUTER, &syn(VIP, CLIENT));
    // What it says of its end, it says to both.
    let reset = Frame::tcp(CLIENT, VIP, State::RST);
    turns(
        &lab,
        "reset",
        &reset,
        OTHER_NODE,
        &Frame::tcp(AS_NODE, FAR, State::RST),
    );
    assert!(lab.flows().values().all(|flow| flow.state.is_closed()));
    assert_eq!(clients(&lab, 3), (1, 0));
}

#[test]
fn datagrams_leave_a_backend_that_is_gone() {
    let mut lab = lab();
    let one = |generation, backend: &'static [&'static str]| Service {
        number: 1,
        generation,
        cluster: backend,
        ..Service::default()
    };
    lab.serving(1, FAR, true);
    let out = Frame::udp(CLIENT, NODE_PORT);
    turns(&lab, "first", &out, OTHER_NODE, &Frame::udp(AS_NODE, FAR));
    lab.service(&one(2, &["10.2.0.8:8080"]));
    turns(
        &lab,
        "still serving",
        &out,
        OTHER_NODE,
        &Frame::udp(AS_NODE, FAR),
    );
    lab.serving(1, FAR, false);
    lab.service(&one(3, &["10.2.0.8:8080"]));
    lab.next_hop("10.2.0.8", OTHER_NODE, UPLINK);
    let rewritten = Frame::udp(AS_NODE, "10.2.0.8:8080");
    turns(&lab, "gone", &out, OTHER_NODE, &rewritten);
}

/// Where the stack has a say in what goes to other nodes.
#[test]
fn one_of_many_uplinks() {
    let mut lab = node(Lab::new());
    lab.next_hop("10.2.0.7", OTHER_NODE, UPLINK);
    lab.next_hop("192.0.2.1", ROUTER, UPLINK);
    let out = syn(CLIENT, NODE_PORT);
    passes(&lab, "to another node", &out);
    lab.expect(NET, "by the stack", &out, To::Stack, &syn(AS_NODE, FAR));
    turns(
        &lab,
        "back to where it came from",
        &syn(FAR, AS_NODE),
        ROUTER,
        &syn(NODE_PORT, CLIENT),
    );
}

/// The flow is made, and the next program follows it: the same backend, and
/// counted once.
#[test]
fn a_backend_here_is_the_stacks() {
    let mut lab = lab();
    lab.service(&Service {
        number: 1,
        generation: 1,
        cluster: &[HERE],
        ..Service::default()
    });
    let out = syn(CLIENT, NODE_PORT);
    for _ in 0..2 {
        passes(&lab, "to a pod", &out);
        lab.expect(NET, "to a pod", &out, To::Pod(POD_2), &syn(CLIENT, HERE));
    }
    lab.expect(
        At("from_pod", POD_2),
        "its answer",
        &syn(HERE, CLIENT),
        To::Link,
        &syn(NODE_PORT, CLIENT),
    );
    assert_eq!(lab.flows().len(), 2);
    assert_eq!(clients(&lab, 1), (1, 0));
    // By the program that sends it on.
    assert_eq!(bytes(&lab, 1), (2 * len(&out), len(&syn(HERE, CLIENT))));
}

#[test]
fn what_is_not_the_common_case_goes_on_as_it_is() {
    let mut lab = lab();
    // What could be taken for theirs.
    turns(
        &lab,
        "tcp",
        &syn(CLIENT, NODE_PORT),
        OTHER_NODE,
        &syn(AS_NODE, FAR),
    );
    let datagram = Frame::udp(CLIENT, NODE_PORT);
    turns(
        &lab,
        "udp",
        &datagram,
        OTHER_NODE,
        &Frame::udp(AS_NODE, FAR),
    );
    let flows = lab.flows();
    let first = Fragment {
        id: 7,
        offset: 0,
        more: true,
    };
    let later = Fragment {
        offset: 24,
        ..first
    };
    let quoted = Quote {
        frame: syn(AS_NODE, FAR),
        bytes: 8,
    };
    let error = Body::Error {
        kind: 3,
        code: 4,
        rest: 1400,
        quoted: Box::new(quoted),
    };
    let with = |change: fn(&mut Frame)| {
        let mut frame = syn(CLIENT, NODE_PORT);
        change(&mut frame);
        frame
    };
    let table: Vec<(&str, Frame)> = vec![
        ("a tag", with(|frame| frame.vlans = vec![5])),
        ("no hop left", with(|frame| frame.ttl = 1)),
        (
            "too long",
            Frame::new(
                CLIENT,
                NODE_PORT,
                Body::Tcp {
                    flags: ACK,
                    payload: 1461,
                },
            ),
        ),
        (
            "a first fragment",
            Frame {
                fragment: Some(first),
                ..datagram.clone()
            },
        ),
        (
            "a later fragment",
            Frame {
                fragment: Some(later),
                ..Frame::new(
                    CLIENT,
                    NODE_PORT,
                    Body::Raw {
                        protocol: 17,
                        payload: 30,
                    },
                )
            },
        ),
        ("an error", Frame::new("203.0.113.1:0", AS_NODE, error)),
        ("a ping", Frame::new(CLIENT, NODE_PORT, Body::Echo)),
        ("sctp", Frame::new(CLIENT, NODE_PORT, Body::Sctp)),
        (
            "no ports",
            Frame::new(CLIENT, NODE_PORT, Body::Other { protocol: 47 }),
        ),
        ("a port of the node", syn(CLIENT, "192.168.0.10:22")),
        ("another host", syn(CLIENT, "203.0.113.1:30080")),
        ("to a pod", syn(CLIENT, HERE)),
        ("with a pod's address", syn("10.1.0.1:40000", NODE_PORT)),
        ("to a process", syn(FAR, "192.168.0.10:40000")),
    ];
    for (what, frame) in &table {
        passes(&lab, what, frame);
    }
    let for_another = syn(CLIENT, NODE_PORT).macs([2, 9, 9, 9, 9, 9], peer_mac(UPLINK));
    passes_bytes(&lab, "another's frame", UPLINK, &for_another.bytes());
    let short = &arrived(&syn(CLIENT, NODE_PORT)).bytes()[..40];
    passes_bytes(&lab, "half a header", UPLINK, short);
    let arp = [&mac(UPLINK)[..], &peer_mac(UPLINK), &[8, 6], &[0; 28]].concat();
    passes_bytes(&lab, "no IP", UPLINK, &arp);
    let elsewhere = syn(CLIENT, NODE_PORT).macs(mac(POD_1), peer_mac(POD_1));
    passes_bytes(&lab, "no uplink", POD_1, &elsewhere.bytes());
    assert!(lab.flows().keys().eq(flows.keys()));
    assert_eq!(clients(&lab, 1), (2, 0));
    assert_eq!(counted(&lab), []);
}

/// As a virtual link's other end sends it: the sum of the pseudo header is where
/// the checksum will be.
#[test]
fn a_checksum_that_the_device_is_to_finish() {
    let lab = lab();
    for (what, frame, at) in [
        ("tcp", syn(CLIENT, NODE_PORT), 34 + 16),
        ("udp", Frame::udp(CLIENT, NODE_PORT), 34 + 6),
        ("tcp over IPv6", syn(CLIENT6, NODE_PORT6), 54 + 16),
        ("udp over IPv6", Frame::udp(CLIENT6, NODE_PORT6), 54 + 6),
    ] {
        let mut bytes = arrived(&frame).bytes();
        let sum = frame.pseudo_sum();
        bytes[at..at + 2].copy_from_slice(&sum);
        passes_bytes(&lab, what, UPLINK, &bytes);
    }
}

#[test]
fn refusals_are_the_stacks_to_say_and_to_count() {
    let mut lab = lab();
    let local = Service {
        number: 3,
        generation: 1,
        terms: Terms::new(Terms::EXTERNAL_LOCAL, 0),
        cluster: &[FAR],
        local: &[],
    };
    lab.service(&local);
    lab.frontend(VIP, Tcp, 3, Frontend::EXTERNAL);
    lab.service(&Service {
        number: 4,
        generation: 1,
        ..Service::default()
    });
    lab.frontend("198.51.100.1:81", Tcp, 4, Frontend::EXTERNAL);
    lab.simple_service(5, "198.51.100.1:82", Tcp, FAR);
    let ranges = Frontend::EXTERNAL | Frontend::SOURCE_RANGES;
    lab.frontend("198.51.100.1:82", Tcp, 5, ranges);
    for (at, service, reason) in [
        (VIP, 3, Reason::NoLocalEndpoints),
        ("198.51.100.1:81", 4, Reason::NoEndpoints),
        ("198.51.100.1:82", 5, Reason::SourceRange),
        ("198.51.100.1:83", 0, Reason::UnknownPort),
    ] {
        let out = syn(CLIENT, at);
        passes(&lab, at, &out);
        assert_eq!(
            (lab.reason(reason), clients(&lab, service)),
            (0, (0, 0)),
            "{at}"
        );
        lab.run("from_net", UPLINK, &arrived(&out));
        assert_eq!(lab.reason(reason), 1, "{at}");
    }
    assert_eq!(lab.flows().len(), 0);
}

#[test]
fn source_ports_that_run_out() {
    let mut lab = node(Lab::with_one_uplink_and_port(61000));
    lab.next_hop("10.2.0.7", OTHER_NODE, UPLINK);
    let rewritten = syn("192.168.0.10:61000", FAR);
    turns(
        &lab,
        "the one",
        &syn("192.0.2.1:1000", NODE_PORT),
        OTHER_NODE,
        &rewritten,
    );
    let next = syn("192.0.2.1:1001", NODE_PORT);
    passes(&lab, "the next", &next);
    assert_eq!(counted(&lab), []);
    lab.expect_dropped(NET, "the next", &next);
    assert_eq!(counted(&lab), [(Reason::SourcePorts, 1)]);
    // One here, and there the one for whom a backend was chosen in vain.
    assert_eq!(clients(&lab, 1), (2, 0));
}

/// Where packets go is what the stack did with the last one.
#[test]
fn next_hops_are_seen_at_the_egress_and_grow_old() {
    for (client, at, node, backend) in [
        (CLIENT, NODE_PORT, AS_NODE, FAR),
        (CLIENT6, NODE_PORT6, AS_NODE6, FAR6),
    ] {
        let mut lab = node_of_nobody();
        let address = backend.rsplit_once(':').unwrap().0.trim_matches(['[', ']']);
        let (out, rewritten) = (syn(client, at), syn(node, backend));
        passes(&lab, "nobody knows", &out);
        let leaving = rewritten.clone().macs(OTHER_NODE, mac(UPLINK));
        // From a pod, or by another link.
        lab.run_forwarded("to_net", POD_1, UPLINK, &leaving);
        passes(&lab, "that came by another link", &out);
        let tagged = Frame {
            vlans: vec![5],
            ..leaving.clone()
        };
        lab.run_forwarded("to_net", UPLINK, UPLINK, &tagged);
        passes(&lab, "that has a tag", &out);
        let outcome = lab.run_forwarded("to_net", UPLINK, UPLINK, &leaving);
        assert_eq!(outcome.bytes, leaving.bytes());
        turns(&lab, "as it went", &out, OTHER_NODE, &rewritten);
        let moved = leaving.clone().macs(ROUTER, mac(UPLINK));
        lab.run_forwarded("to_net", UPLINK, UPLINK, &moved);
        turns(&lab, "as it went last", &out, ROUTER, &rewritten);
        lab.next_hop(address, OTHER_NODE, POD_1);
        passes(&lab, "by another link", &out);
        lab.next_hop_at(address, OTHER_NODE, UPLINK, 1);
        passes(&lab, "long ago", &out);
        assert_eq!(
            lab.flow(&tuple(client, at, Protocol::Tcp)).to.dst,
            ip(address)
        );
        assert_eq!(clients(&lab, if client == CLIENT { 1 } else { 2 }), (1, 0));
    }
}

fn node_of_nobody() -> Lab {
    node(Lab::with_one_uplink())
}

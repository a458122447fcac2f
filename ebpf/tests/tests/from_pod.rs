//! What pods send to services, and what their backends answer.

use vetch_ebpf_common::{
    Frontend, Pod,
    Protocol::{Sctp, Tcp, Udp},
    Reason, Terms, addresses,
};
use vetch_ebpf_tests::{
    At, Body, DROP, Frame, Lab, NODE_V4, NODE_V6, POD_1, POD_2, Service, To, endpoint, ip, opening,
    syn, tuple,
};

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const INTO_ONE: To = To::Pod(POD_1);
const INTO_TWO: To = To::Pod(POD_2);

const CLIENT: &str = "10.1.0.1:40000";
const VIP: &str = "10.96.0.1:80";
const BACKEND: &str = "10.1.0.2:8080";
const CLIENT6: &str = "[fd00::1]:40000";
const VIP6: &str = "[fd96::1]:80";
const BACKEND6: &str = "[fd00::2]:8080";

fn lab() -> Lab {
    let mut lab = Lab::new();
    for (address, ifindex, flags) in [
        ("10.1.0.1", POD_1, 0),
        ("fd00::1", POD_1, 0),
        ("10.1.0.2", POD_2, 0),
        ("fd00::2", POD_2, 0),
        ("10.1.0.3", POD_2, Pod::BY_STACK),
    ] {
        lab.pod(address, ifindex, flags);
    }
    lab
}

#[test]
fn there_and_back() {
    let mut lab = lab();
    let same_port = ["10.1.0.2:80", "[fd00::2]:80"];
    for (client, vip, backend, same_port) in [
        (CLIENT, VIP, BACKEND, same_port[0]),
        (CLIENT6, VIP6, BACKEND6, same_port[1]),
    ] {
        for (protocol, backend) in [(Tcp, backend), (Udp, backend), (Sctp, same_port)] {
            lab.simple_service(1, vip, protocol, backend);
            let out = opening(protocol, client, vip);
            let back = opening(protocol, backend, client);
            for time in ["first", "next"] {
                let rewritten = out.clone().dst(backend);
                lab.expect(ONE, &format!("{time} {out:?}"), &out, INTO_TWO, &rewritten);
                let rewritten = back.clone().src(vip);
                lab.expect(
                    TWO,
                    &format!("{time} {back:?}"),
                    &back,
                    INTO_ONE,
                    &rewritten,
                );
            }
        }
    }
    assert_eq!(lab.flows().len(), 2 * 6);
}

/// Where the headers are and what of the checksum there is makes no difference.
#[test]
fn headers_of_all_kinds() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, BACKEND);
    lab.simple_service(1, VIP, Udp, BACKEND);
    lab.simple_service(2, VIP6, Tcp, BACKEND6);
    lab.simple_service(2, VIP6, Udp, BACKEND6);
    let v4 = syn(CLIENT, VIP);
    let v6 = syn(CLIENT6, VIP6);
    let table = [
        (
            "payload",
            Frame::new(
                CLIENT,
                VIP,
                Body::Tcp {
                    flags: 16,
                    payload: 1001,
                },
            ),
            INTO_TWO,
        ),
        (
            "one VLAN tag",
            Frame {
                vlans: vec![7],
                ..v4.clone()
            },
            To::Stack,
        ),
        (
            "two VLAN tags",
            Frame {
                vlans: vec![7, 8],
                ..v6.clone()
            },
            To::Stack,
        ),
        (
            "options",
            Frame {
                options: vec![1; 4],
                ..v4.clone()
            },
            INTO_TWO,
        ),
        (
            "all the options that fit",
            Frame {
                options: vec![1; 40],
                ..Frame::udp(CLIENT, VIP)
            },
            INTO_TWO,
        ),
        (
            "extension headers",
            Frame {
                extensions: vec![(0, 16), (43, 24), (60, 1024)],
                ..v6.clone()
            },
            INTO_TWO,
        ),
        (
            "no UDP checksum",
            Frame::new(CLIENT, VIP, Body::UdpUnchecked { payload: 5 }),
            INTO_TWO,
        ),
        (
            "no UDP checksum over IPv6",
            Frame::new(CLIENT6, VIP6, Body::UdpUnchecked { payload: 6 }),
            INTO_TWO,
        ),
    ];
    for (description, frame, to) in table {
        let backend = if frame.src.is_ipv4() {
            BACKEND
        } else {
            BACKEND6
        };
        lab.expect(ONE, description, &frame, to, &frame.clone().dst(backend));
    }
}

/// The one sum that must not come out as 0, which says that there is none.
#[test]
fn a_udp_checksum_of_zero_is_written_as_ffff() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Udp, BACKEND);
    let found = (1..=u16::MAX).find_map(|port| {
        let rewritten = Frame::udp(&format!("10.1.0.1:{port}"), BACKEND);
        let bytes = rewritten.bytes();
        (bytes[40..42] == [0xff, 0xff]).then_some(rewritten)
    });
    let rewritten = found.expect("one port in 65,535");
    let frame = rewritten.clone().dst(VIP);
    lab.expect(ONE, "sum of zero", &frame, INTO_TWO, &rewritten);
}

#[test]
fn a_backend_elsewhere_is_reached_by_the_stack() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, "10.2.0.7:8080");
    let out = syn(CLIENT, VIP);
    lab.expect(
        ONE,
        "out",
        &out,
        To::Stack,
        &out.clone().dst("10.2.0.7:8080"),
    );
    let back = syn("10.2.0.7:8080", CLIENT);
    let at = At("to_pod", POD_1);
    lab.expect(
        at,
        "back by the stack",
        &back,
        To::Stack,
        &back.clone().src(VIP),
    );
}

#[test]
fn pods_by_the_stack_are_balanced_too() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, "10.1.0.3:8080");
    let out = syn(CLIENT, VIP);
    lab.expect(
        ONE,
        "to one",
        &out,
        To::Stack,
        &out.clone().dst("10.1.0.3:8080"),
    );
    let back = syn("10.1.0.3:8080", CLIENT);
    // The stack would refuse the service's address from a pod's link.
    let answer = back.clone().src(VIP);
    lab.expect(TWO, "from one", &back, To::Pod(POD_1), &answer);
    let other = back.clone().src("10.1.0.2:8080");
    lab.expect_untouched(TWO, "another's", &other.dst("10.1.0.3:1"));
    lab.expect(ONE, "spoofed", &back, To::Stack, &answer);

    lab.simple_service(1, VIP, Tcp, BACKEND);
    let out = syn("10.1.0.3:40000", VIP);
    let to = out.clone().dst(BACKEND);
    lab.expect(TWO, "of one", &out, To::Stack, &to);
    let back = syn(BACKEND, "10.1.0.3:40000");
    lab.expect(TWO, "to one", &back, To::Pod(POD_2), &back.clone().src(VIP));
}

#[test]
fn what_is_not_for_a_service_makes_no_flow() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, BACKEND);
    lab.address("10.96.0.1", addresses::SERVICE);
    lab.address("10.1.0.9", addresses::NODE);
    lab.expect(
        ONE,
        "a pod",
        &syn(CLIENT, BACKEND),
        INTO_TWO,
        &syn(CLIENT, BACKEND),
    );
    lab.expect_untouched(ONE, "somewhere", &syn(CLIENT, "192.0.2.1:80"));
    lab.expect_untouched(ONE, "a port of the node", &syn(CLIENT, "10.1.0.9:22"));
    lab.expect_untouched(ONE, "a ping", &Frame::new(CLIENT, VIP, Body::Echo));
    lab.expect_untouched(
        ONE,
        "another protocol",
        &Frame::new(CLIENT, VIP, Body::Other { protocol: 47 }),
    );
    // The stack's reverse path filter judges these.
    lab.expect_untouched(ONE, "another pod's address", &syn("10.1.0.2:1", VIP));
    lab.expect_untouched(ONE, "nobody's address", &syn("10.1.0.8:1", VIP));
    assert_eq!(lab.flows().len(), 0);
}

#[test]
fn refused_dropped_and_counted() {
    let mut lab = lab();
    let (http, local) = (2, 3);
    lab.address("10.96.0.1", addresses::SERVICE);
    lab.simple_service(1, VIP, Sctp, BACKEND);
    lab.service(&Service {
        number: http,
        generation: 1,
        ..Service::default()
    });
    lab.frontend(VIP, Tcp, http, 0);
    lab.service(&Service {
        number: local,
        generation: 1,
        terms: Terms::new(Terms::INTERNAL_LOCAL, 0),
        cluster: &["10.2.0.1:80"],
        local: &[],
    });
    lab.frontend("10.96.0.1:81", Tcp, local, 0);
    lab.frontend(
        "10.96.0.1:82",
        Tcp,
        local,
        Frontend::EXTERNAL | Frontend::SOURCE_RANGES,
    );

    lab.expect_refused(ONE, "no endpoints", &syn(CLIENT, VIP));
    lab.expect_refused(ONE, "no such port", &syn(CLIENT, "10.96.0.1:9"));
    lab.expect_dropped(ONE, "none here", &syn(CLIENT, "10.96.0.1:81"));
    lab.expect_dropped(ONE, "not invited", &syn(CLIENT, "10.96.0.1:82"));
    let sctp = Frame::new(CLIENT, VIP, Body::Sctp);
    lab.expect_dropped(ONE, "sctp of another port", &sctp);
    for (reason, count) in [
        (Reason::NoEndpoints, 1),
        (Reason::UnknownPort, 1),
        (Reason::NoLocalEndpoints, 1),
        (Reason::SourceRange, 1),
        (Reason::Unsupported, 1),
    ] {
        assert_eq!(lab.reason(reason), count, "{reason:?}");
    }
    assert_eq!(lab.flows().len(), 0);

    lab.source_range(local, "10.1.0.0", 96 + 24);
    let invited = syn(CLIENT, "10.96.0.1:82");
    lab.expect(
        ONE,
        "invited",
        &invited,
        To::Stack,
        &invited.clone().dst("10.2.0.1:80"),
    );
    assert_eq!(lab.reason(Reason::SourceRange), 1);
}

#[test]
fn packets_that_end_too_early() {
    let lab = lab();
    // The kernel makes no test packet with less than an IP header behind
    // Ethernet's; behind a VLAN tag it does not look.
    let tagged = |frame| Frame {
        vlans: vec![5],
        ..frame
    };
    for (description, frame, length) in [
        ("in the IPv4 header", tagged(syn(CLIENT, VIP)), 18 + 19),
        ("in the ports", syn(CLIENT, VIP), 14 + 20 + 3),
        ("in the IPv6 header", tagged(syn(CLIENT6, VIP6)), 18 + 39),
        ("in IPv6's ports", syn(CLIENT6, VIP6), 14 + 40 + 2),
    ] {
        let bytes = &frame.bytes()[..length];
        let before = lab.reason(Reason::Malformed);
        let verdict = lab.run_bytes("from_pod", POD_1, bytes).verdict;
        assert_eq!(verdict, DROP, "{description}");
        assert_eq!(lab.reason(Reason::Malformed), before + 1, "{description}");
    }
    let mut bytes = syn(CLIENT, VIP).bytes();
    bytes[14] = 0x44;
    assert_eq!(lab.run_bytes("from_pod", POD_1, &bytes).verdict, DROP);
    let mut bytes = syn(CLIENT6, VIP6).bytes();
    bytes[14] = 0x50;
    assert_eq!(lab.run_bytes("from_pod", POD_1, &bytes).verdict, DROP);
    assert_eq!(lab.reason(Reason::Malformed), 6);
}

/// A pod that reaches itself through a service sees the node as its client.
#[test]
fn hairpin() {
    let mut lab = lab();
    for (number, client, vip, backend, node) in [
        (1, CLIENT, VIP, "10.1.0.1:8080", NODE_V4),
        (2, CLIENT6, VIP6, "[fd00::1]:8080", NODE_V6),
    ] {
        for protocol in [Tcp, Udp] {
            lab.simple_service(number, vip, protocol, backend);
            // The port is any of the range: a first packet finds it out.
            let out = opening(protocol, client, vip);
            lab.run("from_pod", POD_1, &out);
            let to = lab.flow(&tuple(client, vip, protocol)).to;
            assert_eq!(to.src, ip(node));
            let port = u16::from_be_bytes(to.sport);
            assert!(port >= 61000, "{port}");
            let node = match ip(node).is_v4() {
                true => format!("{node}:{port}"),
                false => format!("[{node}]:{port}"),
            };
            let rewritten = opening(protocol, &node, backend);
            lab.expect(ONE, "question", &out, INTO_ONE, &rewritten);
            let back = opening(protocol, backend, &node);
            let rewritten = opening(protocol, vip, client);
            lab.expect(ONE, "answer", &back, INTO_ONE, &rewritten);
        }
    }
    let in_range = "10.1.0.1:61234";
    let out = syn(in_range, VIP);
    let rewritten = syn(&format!("{NODE_V4}:61234"), "10.1.0.1:8080");
    lab.expect(
        ONE,
        "a port of the range is kept",
        &out,
        INTO_ONE,
        &rewritten,
    );
}

/// Two services with one backend, and a client that uses one port for both.
#[test]
fn answers_of_two_services_are_told_apart() {
    let mut lab = lab();
    let second = "10.96.0.2:80";
    lab.simple_service(1, VIP, Tcp, BACKEND);
    lab.simple_service(2, second, Tcp, BACKEND);
    let rewritten = syn(CLIENT, BACKEND);
    lab.expect(ONE, "the first", &syn(CLIENT, VIP), INTO_TWO, &rewritten);
    lab.run("from_pod", POD_1, &syn(CLIENT, second));
    let to = lab.flow(&tuple(CLIENT, second, Tcp)).to;
    assert_eq!((to.src, to.dst), (ip("10.1.0.1"), ip("10.1.0.2")));
    let port = u16::from_be_bytes(to.sport);
    assert!(port >= 61000, "{port}");
    let other = format!("10.1.0.1:{port}");
    lab.expect(
        ONE,
        "the second",
        &syn(CLIENT, second),
        INTO_TWO,
        &syn(&other, BACKEND),
    );
    lab.expect(
        TWO,
        "answer",
        &syn(BACKEND, CLIENT),
        INTO_ONE,
        &syn(VIP, CLIENT),
    );
    lab.expect(
        TWO,
        "answer",
        &syn(BACKEND, &other),
        INTO_ONE,
        &syn(second, CLIENT),
    );

    lab.simple_service(3, VIP, Sctp, "10.1.0.2:80");
    lab.simple_service(4, second, Sctp, "10.1.0.2:80");
    let sctp = |dst| Frame::new(CLIENT, dst, Body::Sctp);
    lab.expect(ONE, "sctp", &sctp(VIP), INTO_TWO, &sctp("10.1.0.2:80"));
    lab.expect_dropped(ONE, "sctp keeps its port", &sctp(second));
    assert_eq!(lab.reason(Reason::Unsupported), 1);
}

#[test]
fn affinity_and_hash_look_at_the_client() {
    let mut lab = lab();
    let backends: Vec<String> = (1..=64).map(|n| format!("10.2.0.{n}:80")).collect();
    let cluster: Vec<&str> = backends.iter().map(String::as_str).collect();
    for (number, vip, terms, distinct) in [
        (1, "10.96.0.1:80", Terms::default(), 10..=64),
        (2, "10.96.0.2:80", Terms::new(Terms::HASH, 0), 1..=1),
        (3, "10.96.0.3:80", Terms::new(Terms::AFFINITY, 60), 1..=1),
    ] {
        lab.service(&Service {
            number,
            generation: 1,
            terms,
            cluster: &cluster,
            local: &[],
        });
        lab.frontend(vip, Tcp, number, 0);
        for backend in &cluster {
            lab.serving(number, backend, true);
        }
        for port in 1..=64 {
            lab.run("from_pod", POD_1, &syn(&format!("10.1.0.1:{port}"), vip));
        }
        let mut chosen: Vec<_> = lab
            .flows()
            .iter()
            .filter(|(key, _)| key.destination() == endpoint(vip))
            .map(|(_, flow)| flow.to.dst)
            .collect();
        assert_eq!(chosen.len(), 64);
        chosen.sort();
        chosen.dedup();
        assert!(distinct.contains(&chosen.len()), "{vip}: {}", chosen.len());
    }
}

/// IPv4's are the stack's to judge; it has no such filter for IPv6.
#[test]
fn a_pod_sends_ipv6_with_its_own_address_only() {
    let mut lab = lab();
    lab.address("fd00:ff::11", addresses::PEER);
    lab.simple_service(1, VIP6, Udp, BACKEND6);
    let others = [
        "[fd00::2]:40000",
        "[fd00:ff::11]:40000",
        "[2001:db8::1]:40000",
        "[::1]:40000",
    ];
    let everywhere = [VIP6, BACKEND6, "[2001:db8:7::1]:53"];
    for source in others {
        for to in everywhere {
            lab.expect_dropped(ONE, "another's", &Frame::udp(source, to));
        }
    }
    let dropped = (others.len() * everywhere.len()) as u64;
    assert_eq!(lab.reason(Reason::Source), dropped);
    assert_eq!(lab.flows().len(), 0);
    let outside = "[2001:db8:7::1]:53";
    lab.expect_untouched(ONE, "its own", &Frame::udp(CLIENT6, outside));
    // What is not sent on by any router.
    for source in ["[fe80::1]:546", "[::]:546"] {
        lab.expect_untouched(ONE, source, &Frame::udp(source, outside));
    }
    lab.expect_untouched(ONE, "IPv4", &Frame::udp("10.9.9.9:53", "203.0.113.1:53"));
    assert_eq!(lab.reason(Reason::Source), dropped);
}

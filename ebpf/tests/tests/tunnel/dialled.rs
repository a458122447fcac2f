//! The node that the client has dialled: it wraps.

use super::*;

#[test]
fn a_backend_elsewhere_gets_the_packet_as_it_came() {
    for link in [UPLINK, 0] {
        let mut lab = lab_with(Options {
            link,
            direct: true,
            ..Options::default()
        });
        let verdict = if link == 0 { PASS } else { REDIRECT };
        for (number, client, vip, far, node) in BOTH {
            for protocol in [Tcp, Udp] {
                let question = opening(protocol, client, vip);
                for time in ["first", "next"] {
                    let what = format!("{time} {question:?}");
                    goes_on(&lab, &what, &question, node, far, verdict);
                }
            }
            let bytes = if client == CLIENT {
                2 * 40 + 2 * 39
            } else {
                2 * 60 + 2 * 59
            };
            let traffic = lab.traffic(number);
            assert_eq!((traffic.connections, traffic.bytes_in), (2, bytes));
            goes_on(
                &lab,
                "data",
                &segment(client, vip, ACK, 700),
                node,
                far,
                verdict,
            );
        }
        let flows = lab.flows();
        assert_eq!(flows.len(), 4, "one half each");
        assert!(flows.values().all(Flow::is_direct));
        assert_eq!(counted(&lab), []);
    }
}

/// Checksums are the two ends' business, wrong ones too.
#[test]
fn a_node_port_and_a_wrong_checksum() {
    let mut lab = lab();
    service(&mut lab, 5, "0.0.0.0:30080", Tcp, FAR);
    let question = syn(CLIENT, "192.168.0.10:30080");
    goes_on(&lab, "node port", &question, NODE_V4, FAR, REDIRECT);
    const CHECKSUM: usize = 14 + 20 + 16;
    let mut bytes = arrived(&question).bytes();
    bytes[CHECKSUM] ^= 0xff;
    let mut expected = arrived(&wrapped(NODE_V4, FAR, &older(&question))).bytes();
    expected[20 + CHECKSUM] ^= 0xff;
    let outcome = lab.run_bytes("from_net", UPLINK, &bytes);
    assert_eq!(outcome.bytes, expected);
}

/// The first hop of the header before it is its own, the class of service is
/// not.
#[test]
fn the_outer_header_has_the_class_of_service() {
    let lab = lab();
    let mut bytes = arrived(&syn(CLIENT6, VIP6)).bytes();
    // Expedited, and both ends know of congestion.
    bytes[14] |= 0xb;
    bytes[15] |= 0xa0;
    let outcome = lab.run_bytes("from_net", UPLINK, &bytes);
    assert_eq!(outcome.bytes[14..18], [0x6b, 0x80, 0x1f, 0x90]);
    assert_eq!(outcome.bytes[54..56], [0x6b, 0xa0]);
}

/// What is not for a pod of another node, and who is no client outside, goes
/// with the node's address as ever.
#[test]
fn who_is_answered_by_the_way_that_the_question_came() {
    let source = |lab: &mut Lab, client: &str, vip: &str, protocol| {
        let outcome = lab.run("from_net", UPLINK, &opening(protocol, client, vip));
        assert_eq!(outcome.verdict, REDIRECT, "{client} {vip}");
        let flow = lab.flow(&tuple(client, vip, protocol));
        assert!(!flow.is_direct(), "{client} {vip}");
        flow.to.src
    };
    let mut lab = lab();
    // A process of another node, and nobody of the cluster's.
    service(&mut lab, 11, "198.51.100.11:80", Tcp, "192.168.0.11:8080");
    service(&mut lab, 12, "198.51.100.12:80", Tcp, "203.0.113.9:8080");
    service(&mut lab, 13, "198.51.100.13:8080", Sctp, FAR);
    // A NodePort's client keeps its port only among those of the node.
    let client = "192.0.2.1:61234";
    for (client, vip, protocol) in [
        (client, "198.51.100.11:80", Tcp),
        (client, "198.51.100.12:80", Tcp),
        (client, "198.51.100.13:8080", Sctp),
        ("10.2.0.9:61000", VIP, Tcp),
        ("192.168.0.11:61000", VIP, Udp),
    ] {
        let source = source(&mut lab, client, vip, protocol);
        assert_eq!(source, ip(NODE_V4), "{client} {vip}");
    }
    service(&mut lab, 14, "198.51.100.14:80", Tcp, HERE);
    let source_here = source(&mut lab, CLIENT, "198.51.100.14:80", Tcp);
    assert_eq!(source_here, ip("192.0.2.1"));

    let mut other = lab_with(Options {
        link: UPLINK,
        ..Options::default()
    });
    let source = source(&mut other, CLIENT, VIP, Tcp);
    assert_eq!(source, ip(NODE_V4), "as the daemon was told");
}

/// A daemon that was told otherwise changes nothing for whoever is there.
#[test]
fn a_flow_goes_on_as_it_began() {
    let mut direct = lab();
    goes_on(
        &direct,
        "first",
        &Frame::udp(CLIENT, VIP),
        NODE_V4,
        FAR,
        REDIRECT,
    );
    let key = tuple(CLIENT, VIP, Udp);
    let flow = direct.flow(&key);
    let mut other = lab_with(Options {
        link: UPLINK,
        ..Options::default()
    });
    other.serving(1, FAR, true);
    other.set_flow(key, flow);
    goes_on(
        &other,
        "next",
        &Frame::udp(CLIENT, VIP),
        NODE_V4,
        FAR,
        REDIRECT,
    );
}

#[test]
fn the_program_at_the_driver_leaves_it_to_the_stack() {
    let mut lab = lab();
    lab.uplink(UPLINK, 1500);
    lab.next_hop("10.2.0.7", [2, 0, 0, 0, 9, 9], UPLINK);
    let question = Frame::udp(CLIENT, VIP);
    let outcome = lab.run("from_wire", UPLINK, &question);
    let expected = Outcome {
        verdict: XDP_PASS,
        bytes: arrived(&question).bytes(),
    };
    assert_eq!(outcome, expected);
    goes_on(&lab, "behind it", &question, NODE_V4, FAR, REDIRECT);
    let traffic = lab.traffic(1);
    assert_eq!((traffic.connections, traffic.bytes_in), (1, 39));
    let tunnel = arrived(&wrapped(PEER, HERE, &question));
    let outcome = lab.run("from_wire", UPLINK, &tunnel);
    assert_eq!((outcome.verdict, outcome.bytes), (XDP_PASS, tunnel.bytes()));
}

/// Sums up to nothing, whatever it is made of.
fn checks(parts: &[&[u8]]) -> bool {
    let bytes = parts.concat();
    let words = bytes.chunks(2);
    let mut sum: u32 = words
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

#[test]
fn what_does_not_fit_is_told_what_would() {
    let mut lab = lab();
    lab.uplink(UPLINK, 1500);
    for (number, client, vip, far, node) in BOTH {
        let v4 = client == CLIENT;
        let (header, error): (usize, [u8; 2]) = if v4 { (20, [3, 4]) } else { (40, [2, 0]) };
        let most = 1500 - header;
        let told = lab.reason(Reason::TooLong);
        for protocol in [Tcp, Udp] {
            let transport = if protocol == Tcp { 20 } else { 8 };
            let with = |len: usize| match protocol {
                Tcp => segment(client, vip, ACK, len - header - transport),
                _ => Frame::new(
                    client,
                    vip,
                    Body::Udp {
                        payload: len - header - transport,
                    },
                ),
            };
            goes_on(&lab, "just so", &with(most), node, far, REDIRECT);
            let long = with(most + 1);
            let outcome = lab.run("from_net", UPLINK, &long);
            assert_eq!(outcome.verdict, REDIRECT, "{protocol:?}");
            let (macs, packet) = outcome.bytes.split_at(14);
            assert_eq!(macs[..12], [peer_mac(UPLINK), mac(UPLINK)].concat());
            let (ip_header, icmp) = packet.split_at(header);
            assert_eq!(icmp[..2], error);
            assert_eq!(icmp[4..8], u32::to_be_bytes(most as u32));
            let original = long.bytes();
            let quoted = &icmp[8..];
            assert_eq!(quoted.len(), if v4 { 548 } else { 1232 });
            assert!(original[14..].starts_with(quoted));
            let (source, destination) = if v4 {
                assert!(checks(&[ip_header]) && checks(&[icmp]));
                (ip_header[12..16].to_vec(), ip_header[16..20].to_vec())
            } else {
                let len = (icmp.len() as u32).to_be_bytes();
                assert!(checks(&[&ip_header[8..40], &len, &[0, 0, 0, 58], icmp]));
                (ip_header[8..24].to_vec(), ip_header[24..40].to_vec())
            };
            let at = if v4 { 12..20 } else { 8..40 };
            let ends = &original[14..][at];
            assert_eq!([destination, source].concat(), ends);
        }
        assert_eq!(lab.reason(Reason::TooLong) - told, 2);
        assert_eq!(lab.traffic(number).bytes_in, 2 * most as u64);
    }
}

#[test]
fn one_without_a_hop_left_goes_nowhere() {
    let lab = lab();
    let last = Frame {
        ttl: 1,
        ..syn(CLIENT, VIP)
    };
    lab.expect_dropped(NET, "no hop", &last);
    assert_eq!(counted(&lab), [(Reason::Tunnel, 1)]);
}

/// Only the client is seen, and of that its time is made.
#[test]
fn a_half_without_another_is_swept_like_the_rest() {
    let mut lab = lab();
    lab.serving(1, FAR, true);
    let phase = |lab: &mut Lab, protocol| lab.flow(&tuple(CLIENT, VIP, protocol)).state.phase();
    for protocol in [Tcp, Udp] {
        let question = opening(protocol, CLIENT, VIP);
        goes_on(&lab, "asks", &question, NODE_V4, FAR, REDIRECT);
        assert_eq!(phase(&mut lab, protocol), Phase::New);
    }
    goes_on(
        &lab,
        "again",
        &Frame::udp(CLIENT, VIP),
        NODE_V4,
        FAR,
        REDIRECT,
    );
    goes_on(
        &lab,
        "acknowledges",
        &segment(CLIENT, VIP, ACK, 0),
        NODE_V4,
        FAR,
        REDIRECT,
    );
    for protocol in [Tcp, Udp] {
        assert_eq!(phase(&mut lab, protocol), Phase::Answered);
    }
    lab.flows_age(119);
    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.flows()), (0, 2), "{swept:?}");
    lab.flows_age(2);
    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.orphans), (1, 0), "{swept:?}");
    goes_on(
        &lab,
        "ends",
        &segment(CLIENT, VIP, FIN | ACK, 0),
        NODE_V4,
        FAR,
        REDIRECT,
    );
    assert_eq!(phase(&mut lab, Tcp), Phase::Closed);
    lab.flows_age(119);
    goes_on(
        &lab,
        "acknowledges",
        &segment(CLIENT, VIP, ACK, 0),
        NODE_V4,
        FAR,
        REDIRECT,
    );
    lab.flows_age(119);
    assert_eq!(lab.sweep().expired, 0);
    lab.flows_age(2);
    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.orphans, swept.flows()), (1, 0, 0));
}

/// What a router between the nodes says, of what it got, is told to who sent it.
#[test]
fn errors_about_the_tunnel_are_told_to_the_client() {
    let lab = lab();
    let error = |from: &str, to: &str, [kind, code]: [u8; 2], rest, quoted: &Frame, bytes| {
        let body = Body::Error {
            kind,
            code,
            rest,
            quoted: Box::new(Quote {
                frame: quoted.clone(),
                bytes,
            }),
        };
        Frame::new(from, to, body)
    };
    for (_, client, vip, far, node) in BOTH {
        let v4 = client == CLIENT;
        let (header, router, too_long, unreachable) = if v4 {
            (20, "203.0.113.1:0", [3, 4], [3, 1])
        } else {
            (40, "[2001:db8:9::1]:0", [2, 0], [1, 3])
        };
        for protocol in [Tcp, Udp] {
            let question = opening(protocol, client, vip);
            goes_on(&lab, "question", &question, node, far, REDIRECT);
            let sent = wrapped(node, far, &older(&question));
            for (what, said, mtu, told) in [
                ("too long", too_long, 1400, 1400 - header as u32),
                ("a router that does not say", too_long, 0, 0),
                ("unreachable", unreachable, 0, 0),
            ] {
                for bytes in [8, 15, 200] {
                    let about = error(router, &host(node), said, mtu, &sent, header + bytes);
                    let expected = error(vip, client, said, told, &older(&question), bytes);
                    let outcome = lab.run("from_net", UPLINK, &about);
                    assert_eq!(outcome.verdict, REDIRECT, "{what} {bytes} {question:?}");
                    let (found, expected) = (&outcome.bytes[14..], &expected.bytes()[14..]);
                    assert_eq!(found[header..], expected[header..], "{what} {bytes}");
                    let ends = if v4 { 12..20 } else { 8..40 };
                    assert_eq!(found[ends.clone()], expected[ends]);
                    assert!(!v4 || checks(&[&found[..20]]));
                    let long = &found[if v4 { 2..4 } else { 4..6 }];
                    assert_eq!(long, &expected[if v4 { 2..4 } else { 4..6 }]);
                }
            }
            // Too little of it, and of a conversation that is none.
            let short = error(router, &host(node), too_long, 1400, &sent, header + 3);
            lab.expect_untouched(NET, "short", &short);
            let other = opening(protocol, &client.replace("40000", "40001"), vip);
            let other = wrapped(node, far, &other);
            let none = error(router, &host(node), too_long, 1400, &other, header + 8);
            lab.expect_untouched(NET, "none", &none);
        }
    }
    assert_eq!(counted(&lab), []);
}

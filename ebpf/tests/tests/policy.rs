//! What NetworkPolicies let pass, packet by packet.

use vetch_ebpf_common::{
    EventKind, Peer, Pod, PolicyType,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, Rule, RuleSet, State, addresses,
};
use vetch_ebpf_tests::{
    At, Body, Fragment, Frame, Lab, NODE_V4, NODE_V6, Outcome, PASS, POD_1, POD_2, Quote, To,
    UPLINK, opening, syn, tuple,
};

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const NET: At = At("from_net", UPLINK);
const INTO_ONE: To = To::Pod(POD_1);
const INTO_TWO: To = To::Pod(POD_2);

/// Who speaks, in each family.
struct Side {
    one: &'static str,
    two: &'static str,
    client: &'static str,
    server: &'static str,
    outside: &'static str,
    vip: &'static str,
    node: &'static str,
    /// Of a range around `outside`, as one of IPv6.
    prefix: u32,
}

const V4: Side = Side {
    one: "10.1.0.1",
    two: "10.1.0.2",
    client: "10.1.0.1:40000",
    server: "10.1.0.2:8080",
    outside: "192.0.2.1:443",
    vip: "10.96.0.1:80",
    node: "192.168.0.10:10250",
    prefix: 96 + 24,
};
const V6: Side = Side {
    one: "fd00::1",
    two: "fd00::2",
    client: "[fd00::1]:40000",
    server: "[fd00::2]:8080",
    outside: "[2001:db8::1]:443",
    vip: "[fd96::1]:80",
    node: "[fd00:ff::10]:10250",
    prefix: 64,
};
const SIDES: [&Side; 2] = [&V4, &V6];

/// The identity of the first pod, and the number of the range.
const IDENTITY: u32 = 7;
const BLOCK: u32 = 3;

fn ingress(number: u16) -> RuleSet {
    RuleSet::new(PolicyType::Ingress, number).unwrap()
}

fn egress(number: u16) -> RuleSet {
    RuleSet::new(PolicyType::Egress, number).unwrap()
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    for side in SIDES {
        lab.pod(side.one, POD_1, 0);
        lab.pod(side.two, POD_2, 0);
        lab.identity(side.one, IDENTITY);
        lab.block(ip_of(side.outside), side.prefix, BLOCK);
    }
    for node in [NODE_V4, NODE_V6] {
        lab.address(node, addresses::NODE);
    }
    lab
}

fn ip_of(endpoint: &str) -> &str {
    let (ip, _) = endpoint.rsplit_once(':').unwrap();
    ip.trim_start_matches('[').trim_end_matches(']')
}

fn echo(from: &str, to: &str) -> Frame {
    Frame::new(&no_port(from), &no_port(to), Body::Echo)
}

fn no_port(endpoint: &str) -> String {
    let (ip, _) = endpoint.rsplit_once(':').unwrap();
    format!("{ip}:0")
}

/// That it goes on as it came.
#[track_caller]
fn passes(lab: &Lab, at: At, what: &str, frame: &Frame, to: To) {
    lab.expect(at, what, frame, to, frame);
}

#[test]
fn who_is_isolated_hears_nobody_and_may_speak() {
    let mut lab = lab();
    for side in SIDES {
        lab.hold(side.two, 1, 0);
        for protocol in [Tcp, Udp, Sctp] {
            let asked = opening(protocol, side.client, side.server);
            lab.expect_dropped(ONE, &format!("{protocol:?}"), &asked);
            // What others say, and hear of it.
            let own = opening(protocol, side.server, side.client);
            passes(&lab, TWO, "its own", &own, INTO_ONE);
            let answer = match protocol {
                Tcp => Frame::tcp(side.client, side.server, State::SYN | State::ACK),
                other => opening(other, side.client, side.server),
            };
            passes(&lab, ONE, "the answer", &answer, INTO_TWO);
        }
        let ping = echo(side.client, side.server);
        lab.expect_dropped(ONE, "a ping", &ping);
        let out = syn(side.outside, side.server);
        lab.expect_dropped(NET, "from outside", &out);
    }
    assert_eq!(lab.reason(Reason::PolicyIngress), 2 * (3 + 2));
    let (events, _) = lab.events();
    let event = events.first().expect("drops are told of");
    assert_eq!(event.kind(), Some(EventKind::Drop));
    assert_eq!(event.reason(), Some(Reason::PolicyIngress));
    let ends = [event.source(), event.destination()];
    let expected = [V4.client, V4.server].map(vetch_ebpf_tests::endpoint);
    assert_eq!(ends, expected);
}

#[test]
fn rules_let_ports_of_peers_pass() {
    let mut lab = lab();
    lab.let_port(ingress(1), Peer::identity(IDENTITY), Tcp, 8080);
    // 9000 to 9007.
    let range = Rule::new(
        ingress(1),
        Peer::identity(IDENTITY),
        Udp as u8,
        9000_u16.to_be_bytes(),
    );
    lab.set_rule(Rule::PORT - 3, range, true);
    for side in SIDES {
        lab.hold(side.two, 1, 0);
        let two = no_port(side.server);
        let at = |port: u16| {
            two.strip_suffix('0')
                .map(|ip| format!("{ip}{port}"))
                .unwrap()
        };
        let table: [(Protocol, u16, bool); 7] = [
            (Tcp, 8080, true),
            (Tcp, 8081, false),
            (Udp, 8080, false),
            (Udp, 8999, false),
            (Udp, 9000, true),
            (Udp, 9007, true),
            (Udp, 9008, false),
        ];
        for (protocol, port, expected) in table {
            let frame = opening(protocol, side.client, &at(port));
            let what = format!("{protocol:?} {port}");
            if expected {
                passes(&lab, ONE, &what, &frame, INTO_TWO);
                passes(&lab, ONE, &what, &frame, INTO_TWO);
            } else {
                lab.expect_dropped(ONE, &what, &frame);
            }
        }
        // Others have no identity.
        lab.expect_dropped(NET, "from outside", &syn(side.outside, side.server));
        lab.expect_dropped(ONE, "a ping", &echo(side.client, side.server));
        let answer = Frame::tcp(side.server, side.client, State::SYN | State::ACK);
        passes(&lab, TWO, "the answer", &answer, INTO_ONE);
    }
}

#[test]
fn blocks_are_for_both_directions() {
    let mut lab = lab();
    lab.let_port(egress(1), Peer::block(BLOCK), Tcp, 443);
    lab.let_all(ingress(1), Peer::block(BLOCK));
    for side in SIDES {
        lab.hold(side.one, 0, 1);
        let out = syn(side.client, side.outside);
        passes(&lab, ONE, "out", &out, To::Stack);
        let elsewhere = if side.one.contains(':') {
            "[2001:db8:9::1]:443"
        } else {
            "198.51.100.1:443"
        };
        lab.expect_dropped(ONE, "elsewhere", &syn(side.client, elsewhere));
        lab.expect_dropped(ONE, "to a pod", &syn(side.client, side.server));
        lab.expect_dropped(ONE, "a datagram", &Frame::udp(side.client, side.outside));
        let answer = Frame::tcp(side.outside, side.client, State::SYN | State::ACK);
        passes(&lab, NET, "the answer", &answer, INTO_ONE);
        lab.hold(side.two, 1, 0);
        passes(&lab, NET, "in", &syn(side.outside, side.server), INTO_TWO);
        let ping = echo(side.outside, side.server);
        passes(&lab, NET, "a ping where everything may", &ping, INTO_TWO);
    }
    assert_eq!(lab.reason(Reason::PolicyEgress), 2 * 3);
}

/// One that may do as it likes in one direction is answered in the other.
#[test]
fn answers_come_as_long_as_the_conversation_goes_on() {
    let mut lab = lab();
    for side in SIDES {
        lab.hold(side.one, 1, 0);
        let asked = Frame::udp(side.client, side.outside);
        let answer = Frame::udp(side.outside, side.client);
        lab.expect_dropped(NET, "before it asked", &answer);
        passes(&lab, ONE, "asked", &asked, To::Stack);
        passes(&lab, NET, "answered", &answer, INTO_ONE);
        lab.conversations_age(100);
        passes(&lab, NET, "later", &answer, INTO_ONE);
        lab.conversations_age(130);
        lab.expect_dropped(NET, "too late", &answer);
        let ping = echo(side.client, side.outside);
        passes(&lab, ONE, "a ping", &ping, To::Stack);
        let pong = Frame::new(
            &no_port(side.outside),
            &no_port(side.client),
            Body::EchoAnswer,
        );
        passes(&lab, NET, "its answer", &pong, INTO_ONE);
        let asks = echo(side.outside, side.client);
        lab.expect_dropped(NET, "another ping", &asks);
    }
}

#[test]
fn a_segment_without_a_connection_opens_none() {
    let mut lab = lab();
    let side = V4;
    lab.hold(side.one, 1, 0);
    lab.hold(side.two, 1, 0);
    let data = Frame::tcp(side.outside, side.client, State::ACK);
    passes(&lab, NET, "of before the policy", &data, INTO_ONE);
    assert!(lab.conversations().is_empty());
    let served = Frame::tcp(side.outside, side.server, State::ACK);
    lab.expect_dropped(NET, "to a port that nobody dials from", &served);
    lab.expect_dropped(NET, "a new one", &syn(side.outside, side.client));
    // Whoever may not dial the other end is not answered by it.
    lab.hold(side.one, 1, 1);
    lab.expect_dropped(NET, "of nobody it may dial", &data);
    lab.expect_dropped(
        ONE,
        "and not out",
        &Frame::tcp(side.client, side.outside, State::ACK),
    );
}

#[test]
fn errors_about_what_passed_pass() {
    let mut lab = lab();
    lab.let_port(egress(1), Peer::block(BLOCK), Udp, 443);
    for side in SIDES {
        lab.hold(side.one, 1, 1);
        let sent = Frame::udp(side.client, side.outside);
        let (kind, code, router) = if side.one.contains(':') {
            (1, 4, "[2001:db8:9::9]:0")
        } else {
            (3, 3, "203.0.113.9:0")
        };
        let error = |about: &Frame| {
            let body = Body::Error {
                kind,
                code,
                rest: 0,
                quoted: Box::new(Quote {
                    frame: about.clone(),
                    bytes: 8,
                }),
            };
            Frame::new(router, &no_port(side.client), body)
        };
        lab.expect_dropped(NET, "about nothing", &error(&sent));
        passes(&lab, ONE, "sent", &sent, To::Stack);
        passes(&lab, NET, "about it", &error(&sent), INTO_ONE);
        let other = Frame::udp(side.client, &side.outside.replace("443", "444"));
        lab.expect_dropped(NET, "about another", &error(&other));
    }
}

#[test]
fn fragments_go_with_their_first() {
    let mut lab = lab();
    lab.let_port(ingress(1), Peer::identity(IDENTITY), Udp, 8080);
    for side in SIDES {
        lab.hold(side.two, 1, 0);
        let first = |to: &str, id| Frame {
            fragment: Some(Fragment {
                id,
                offset: 0,
                more: true,
            }),
            ..Frame::new(side.client, to, Body::Udp { payload: 16 })
        };
        let later = |to: &str, id| Frame {
            fragment: Some(Fragment {
                id,
                offset: 24,
                more: false,
            }),
            ..Frame::new(
                side.client,
                to,
                Body::Raw {
                    protocol: 17,
                    payload: 24,
                },
            )
        };
        let other = side.server.replace("8080", "8081");
        passes(&lab, ONE, "first", &first(side.server, 5), INTO_TWO);
        passes(&lab, ONE, "later", &later(side.server, 5), INTO_TWO);
        lab.expect_dropped(ONE, "first of another", &first(&other, 6));
        lab.expect_dropped(ONE, "later of it", &later(&other, 6));
        lab.expect_dropped(ONE, "of nobody knows what", &later(side.server, 7));
    }
}

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

/// What is not let pass any more ends, on both sides.
#[test]
fn conversations_follow_their_policies() {
    let mut lab = lab();
    let side = V4;
    let rule = Rule::new(
        ingress(1),
        Peer::identity(IDENTITY),
        Tcp as u8,
        8080_u16.to_be_bytes(),
    );
    lab.set_rule(Rule::PORT, rule, true);
    lab.hold(side.two, 1, 1);
    let data = Frame::tcp(side.client, side.server, State::ACK);
    let answer = Frame::tcp(side.server, side.client, State::ACK);
    passes(
        &lab,
        ONE,
        "begins",
        &syn(side.client, side.server),
        INTO_TWO,
    );
    passes(&lab, TWO, "answers", &answer, INTO_ONE);
    passes(&lab, ONE, "goes on", &data, INTO_TWO);
    lab.conversations_age(60 * 60);
    passes(&lab, TWO, "after an hour", &answer, INTO_ONE);
    lab.set_rule(Rule::PORT, rule, false);
    lab.conversations_age(3);
    lab.expect_dropped(TWO, "not out", &answer);
    lab.expect_dropped(ONE, "not in", &data);
    lab.set_rule(Rule::PORT, rule, true);
    passes(&lab, ONE, "let again", &data, INTO_TWO);
    // Nobody is held any more, or nobody at all.
    lab.set_rule(Rule::PORT, rule, false);
    lab.policies(0);
    passes(
        &lab,
        ONE,
        "no policies",
        &syn(side.client, side.server),
        INTO_TWO,
    );
    lab.policies(1);
    lab.expect_dropped(ONE, "policies", &syn(side.client, side.server));
    lab.hold(side.two, 0, 0);
    passes(
        &lab,
        ONE,
        "of others",
        &syn(side.client, side.server),
        INTO_TWO,
    );
}

/// Also where the pod might dial the other end: who began it is known.
#[test]
fn who_may_be_dialled_may_not_go_on_for_that() {
    let mut lab = lab();
    let side = V4;
    let rule = Rule::new(
        ingress(1),
        Peer::identity(IDENTITY),
        Tcp as u8,
        8080_u16.to_be_bytes(),
    );
    lab.set_rule(Rule::PORT, rule, true);
    lab.hold(side.two, 1, 0);
    let data = Frame::tcp(side.client, side.server, State::ACK);
    let answer = Frame::tcp(side.server, side.client, State::ACK);
    passes(
        &lab,
        ONE,
        "begins",
        &syn(side.client, side.server),
        INTO_TWO,
    );
    passes(&lab, TWO, "answers", &answer, INTO_ONE);
    lab.set_rule(Rule::PORT, rule, false);
    lab.conversations_age(3);
    for time in ["at once", "and again"] {
        lab.expect_dropped(ONE, time, &data);
        lab.expect_dropped(TWO, time, &answer);
    }
    // It begins one of its own.
    let own = syn(side.server, side.client);
    passes(&lab, TWO, "its own", &own, INTO_ONE);
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

/// An exact set of everybody but one: a pod has its identity's rules alone, an address of
/// a range those of the range, and everybody else the rest.
#[test]
fn an_exact_set_goes_by_the_most_specific_peer() {
    const SET: u16 = 1 | RuleSet::EXACT;
    let mut lab = lab();
    // Of the pod protocols 0 to 3 and 64 to 127: no TCP, UDP or SCTP.
    for (first, bits) in [(0, 6), (64, 2)] {
        let peer = Peer::identity(IDENTITY);
        let rule = Rule::new(ingress(SET), peer, first, [0; 2]);
        lab.set_rule(Rule::ALL + bits, rule, true);
    }
    lab.let_port(ingress(SET), Peer::block(BLOCK), Tcp, 8080);
    lab.let_all(ingress(SET), Peer::ANY);
    for side in SIDES {
        lab.hold(side.two, SET, 0);
        // The pod is in a range as well, which has no say.
        lab.block(side.one, 128, BLOCK);
        for protocol in [Tcp, Udp, Sctp] {
            let asked = opening(protocol, side.client, side.server);
            lab.expect_dropped(ONE, &format!("{protocol:?} of the pod"), &asked);
        }
        // ICMP is 1, and ICMPv6 58.
        let ping = echo(side.client, side.server);
        if side.one.contains(':') {
            lab.expect_dropped(ONE, "a ping of the pod", &ping);
        } else {
            passes(&lab, ONE, "a ping of the pod", &ping, INTO_TWO);
        }
        let out = syn(side.outside, side.server);
        passes(&lab, NET, "of the range", &out, INTO_TWO);
        let other = syn(side.outside, &side.server.replace("8080", "8081"));
        lab.expect_dropped(NET, "another port of the range", &other);
        let ping = echo(side.outside, side.server);
        lab.expect_dropped(NET, "a ping of the range", &ping);
        let elsewhere = if side.one.contains(':') {
            "[2001:db8:9::1]:443"
        } else {
            "198.51.100.1:443"
        };
        for frame in [
            syn(elsewhere, side.server),
            Frame::udp(elsewhere, side.server),
            echo(elsewhere, side.server),
        ] {
            passes(&lab, NET, "of everybody else", &frame, INTO_TWO);
        }
    }
}

/// A pod that no rule of an exact set is about is nobody, and so is one that has lost
/// its identity; a plain set beside it asks for all.
#[test]
fn exact_and_plain_sets_are_apart() {
    const SET: u16 = 1 | RuleSet::EXACT;
    let mut lab = lab();
    let side = V4;
    // The same rules in both.
    for set in [SET, 1] {
        lab.let_all(egress(set), Peer::ANY);
        lab.let_port(egress(set), Peer::identity(8), Tcp, 8080);
    }
    lab.identity(side.two, 8);
    let (let_out, not) = (
        syn(side.client, side.server),
        Frame::udp(side.client, side.server),
    );
    lab.hold(side.one, 0, SET);
    passes(&lab, ONE, "exact", &let_out, INTO_TWO);
    lab.expect_dropped(ONE, "exact", &not);
    // What was let pass by one set is judged anew by the other.
    lab.hold(side.one, 0, 1);
    passes(&lab, ONE, "plain", &let_out, INTO_TWO);
    passes(&lab, ONE, "plain", &not, INTO_TWO);
    lab.hold(side.one, 0, SET);
    lab.conversations_age(3);
    lab.expect_dropped(ONE, "its conversation ends", &not);
    assert_eq!(lab.reason(Reason::PolicyEgress), 2);
}

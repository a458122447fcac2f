//! Whom rules let pass: peers, their ports, blocks, exact sets.

use vetch_ebpf_common::{
    EventKind, Peer,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, Rule, RuleSet, State,
};
use vetch_ebpf_tests::{Frame, To, opening, syn};

use super::{
    BLOCK, IDENTITY, INTO_ONE, INTO_TWO, NET, ONE, SIDES, TWO, V4, echo, egress, ingress, lab,
    no_port, passes,
};

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

//! What belongs to a conversation that was let pass: answers, errors, fragments; and how it ends.

use vetch_ebpf_common::{
    Peer,
    Protocol::{Tcp, Udp},
    Rule, State,
};
use vetch_ebpf_tests::{Body, Fragment, Frame, Lab, Quote, To, syn};

use super::{
    BLOCK, IDENTITY, INTO_ONE, INTO_TWO, NET, ONE, SIDES, Side, TWO, V4, echo, egress, ingress,
    lab, no_port, passes,
};

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

/// A conversation that a rule lets begin, and its answer, with `two` held in this direction as well: the lab, and the rule.
fn begun(side: &Side, egress: u16) -> (Lab, Rule) {
    let mut lab = lab();
    let rule = Rule::new(
        ingress(1),
        Peer::identity(IDENTITY),
        Tcp as u8,
        8080_u16.to_be_bytes(),
    );
    lab.set_rule(Rule::PORT, rule, true);
    lab.hold(side.two, 1, egress);
    let answer = Frame::tcp(side.server, side.client, State::ACK);
    passes(
        &lab,
        ONE,
        "begins",
        &syn(side.client, side.server),
        INTO_TWO,
    );
    passes(&lab, TWO, "answers", &answer, INTO_ONE);
    (lab, rule)
}

/// What is not let pass any more ends, on both sides.
#[test]
fn conversations_follow_their_policies() {
    let side = V4;
    let (mut lab, rule) = begun(&side, 1);
    let data = Frame::tcp(side.client, side.server, State::ACK);
    let answer = Frame::tcp(side.server, side.client, State::ACK);
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
    let side = V4;
    let (mut lab, rule) = begun(&side, 0);
    let data = Frame::tcp(side.client, side.server, State::ACK);
    let answer = Frame::tcp(side.server, side.client, State::ACK);
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

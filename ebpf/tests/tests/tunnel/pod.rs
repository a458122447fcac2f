//! The node of the pod that answers: it opens.

use super::*;

/// The pod sees the client, and the client whom it has dialled.
#[test]
fn a_pod_of_this_node_answers_the_client() {
    // Whatever the node does with its own clients.
    let mut lab = lab_with(Options::default());
    let ours = [
        (CLIENT, VIP, HERE, PEER),
        (CLIENT6, VIP6, HERE6, PEER6),
        ("192.0.2.1:40001", "192.168.0.11:30080", HERE, PEER),
    ];
    for (client, dialled, pod, peer) in ours {
        for protocol in [Tcp, Udp] {
            for time in ["first", "next"] {
                let question = opening(protocol, client, dialled);
                let what = format!("{time} {question:?}");
                into_pod(&lab, &what, &question, peer, pod);
                let answer = opening(protocol, pod, client);
                let told = answer.clone().src(dialled);
                lab.expect(POD, &what, &answer, To::Link, &told);
            }
        }
    }
    assert_eq!(lab.flows().len(), 12, "two halves each");
    assert!(lab.flows().values().all(|flow| flow.link == UPLINK));
    assert_eq!(counted(&lab), []);
}

/// Out of its tunnel and into the pod, from the client.
#[track_caller]
fn into_pod(lab: &Lab, what: &str, question: &Frame, peer: &str, pod: &str) {
    let outcome = lab.run("from_net", UPLINK, &wrapped(peer, pod, question));
    let seen = question.clone().dst(pod).macs(peer_mac(POD_2), mac(POD_2));
    let expected = Outcome {
        verdict: REDIRECT,
        bytes: seen.bytes(),
    };
    assert_eq!(outcome, expected, "{what}");
}

#[test]
fn whose_tunnels_are_not_opened() {
    let mut lab = lab();
    let question = Frame::udp(CLIENT, VIP);
    // As ever: to the pod as it came, or on to the stack.
    let stranger = wrapped("203.0.113.1", HERE, &question);
    lab.expect(NET, "of nobody's", &stranger, To::Pod(POD_2), &stranger);
    lab.expect_untouched(
        NET,
        "for nobody",
        &wrapped(PEER, "10.1.0.9:8080", &question),
    );
    lab.expect_untouched(NET, "for another's", &wrapped(PEER, FAR, &question));
    lab.expect_untouched(
        NET,
        "for the node",
        &wrapped(PEER, "192.168.0.10:80", &question),
    );
    // What a pod sends has no node's address, and is not asked for one.
    let pods = wrapped("10.1.0.1", HERE, &question);
    lab.expect(
        At("from_pod", POD_1),
        "a pod's",
        &pods,
        To::Pod(POD_2),
        &pods,
    );
    let forged = wrapped(PEER, HERE, &question);
    lab.expect_untouched(At("from_pod", POD_1), "a forger's", &forged);
    assert_eq!(lab.flows().len(), 0);
    assert_eq!(counted(&lab), []);
}

#[test]
fn tunnels_with_nothing_to_know_inside() {
    let mut lab = lab();
    let echo = Frame::new("192.0.2.1:0", "198.51.100.1:0", Body::Echo);
    let later = Frame {
        fragment: Some(Fragment {
            id: 7,
            offset: 32,
            more: false,
        }),
        ..Frame::new(
            CLIENT,
            VIP,
            Body::Raw {
                protocol: 17,
                payload: 20,
            },
        )
    };
    let other_family = Frame::udp(CLIENT6, VIP6);
    let again = wrapped(PEER, HERE, &Frame::udp(CLIENT, VIP));
    let sctp = Frame::new(CLIENT, VIP, Body::Sctp);
    let no_port = |frame: &Frame| wrapped(PEER, "10.1.0.2:0", frame);
    let all = [
        wrapped(PEER, HERE, &echo),
        wrapped(PEER, HERE, &later),
        wrapped(PEER, HERE, &other_family),
        wrapped(PEER, HERE, &again),
        wrapped(PEER, HERE, &sctp),
        no_port(&Frame::udp(CLIENT, VIP)),
        // Its identification was counted up.
        Frame {
            ttl: 128,
            ..wrapped(PEER, HERE, &segment(CLIENT, VIP, ACK, 9))
        },
    ];
    for (at, frame) in all.iter().enumerate() {
        assert_eq!(lab.run("from_net", UPLINK, frame).verdict, 2, "{at}");
    }
    assert_eq!(counted(&lab), [(Reason::Tunnel, all.len() as u64)]);
    assert_eq!(lab.flows().len(), 0);
    // A conversation that is known needs no port.
    into_pod(&lab, "first", &syn(CLIENT, VIP), PEER, HERE);
    let data = segment(CLIENT, VIP, ACK, 9);
    let in_segments = Frame {
        ttl: 128,
        ..wrapped(PEER, "10.1.0.2:8081", &data)
    };
    let outcome = lab.run("from_net", UPLINK, &in_segments);
    let seen = data.dst(HERE).macs(peer_mac(POD_2), mac(POD_2));
    assert_eq!((outcome.verdict, outcome.bytes), (REDIRECT, seen.bytes()));
}

#[test]
fn the_node_that_was_dialled_says_where() {
    let mut lab = lab();
    let question = Frame::udp(CLIENT, VIP);
    into_pod(&lab, "first", &question, PEER, HERE);
    let elsewhere = "10.1.0.2:9090";
    into_pod(&lab, "another port", &question, PEER, elsewhere);
    assert_eq!(lab.flows().len(), 2);
    let answer = Frame::udp(elsewhere, CLIENT);
    lab.expect(POD, "of it", &answer, To::Link, &answer.clone().src(VIP));
    // And so where the node itself had been dialled before.
    let other = syn(CLIENT, VIP);
    goes_on(&lab, "by itself", &other, NODE_V4, FAR, REDIRECT);
    into_pod(&lab, "by a peer", &other, PEER, HERE);
    assert_eq!(lab.flows().len(), 4);
}

/// Two services would give one client port the same tuple at one backend.
#[test]
fn two_conversations_with_one_backend() {
    let mut lab = lab();
    let others = "198.51.100.2:80";
    into_pod(&lab, "first", &syn(CLIENT, VIP), PEER, HERE);
    let second = syn(CLIENT, others);
    lab.run("from_net", UPLINK, &wrapped(PEER, HERE, &second));
    let to = lab.flow(&tuple(CLIENT, others, Tcp)).to;
    let port = u16::from_be_bytes(to.sport);
    assert!(to.src == ip("192.0.2.1") && port >= 61000, "{to:?}");
    let seen = format!("192.0.2.1:{port}");
    for (client, dialled) in [(CLIENT, VIP), (seen.as_str(), others)] {
        let answer = Frame::tcp(HERE, client, SYN | ACK);
        let told = answer.clone().src(dialled).dst(CLIENT);
        lab.expect(POD, dialled, &answer, To::Link, &told);
    }
}

/// A router on the client's side has something to say of an answer.
#[test]
fn errors_about_answers_find_the_pod() {
    let lab = lab();
    let error = |from: &str, quoted: Frame| {
        let body = Body::Error {
            kind: 3,
            code: 4,
            rest: 1280,
            quoted: Box::new(Quote {
                frame: quoted,
                bytes: 200,
            }),
        };
        Frame::new("203.0.113.1:0", from, body)
    };
    goes_on(&lab, "question", &syn(CLIENT, VIP), NODE_V4, FAR, REDIRECT);
    let told = error("198.51.100.1:0", segment(VIP, CLIENT, ACK, 1400));
    goes_on(
        &lab,
        "at the node that was dialled",
        &told,
        NODE_V4,
        FAR,
        REDIRECT,
    );

    let lab = lab_with(Options::default());
    into_pod(&lab, "question", &syn(CLIENT, VIP), PEER, HERE);
    let outcome = lab.run("from_net", UPLINK, &wrapped(PEER, HERE, &told));
    let known = error("10.1.0.2:0", segment(HERE, CLIENT, ACK, 1400));
    let known = known.macs(peer_mac(POD_2), mac(POD_2));
    assert_eq!((outcome.verdict, outcome.bytes), (REDIRECT, known.bytes()));
}

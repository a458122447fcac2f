//! What the programs tell of drops and refusals, one by one, and of what begins.

use vetch_ebpf_common::{
    Beginning, Event, EventKind, Frontend, Peer, PolicyType,
    Protocol::{Tcp, Udp},
    Reason, RuleSet, Site, State, Tuple, addresses,
};
use vetch_ebpf_tests::{
    At, Body, Frame, Lab, NODE_V4, Options, POD_1, POD_2, Service, UPLINK, endpoint, ip, syn, tuple,
};

const ONE: At = At("from_pod", POD_1);
const NET: At = At("from_net", UPLINK);
const OUT: At = At("to_net", UPLINK);
const CLIENT: &str = "10.1.0.1:40000";
const OUTSIDE: &str = "192.0.2.1:40000";

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.pod("10.1.0.1", POD_1, 0);
    lab.pod("10.1.0.2", POD_2, 0);
    lab.address("10.96.0.1", addresses::SERVICE);
    lab.address("fd96::1", addresses::SERVICE);
    lab.simple_service(1, "10.96.0.1:80", Tcp, "10.1.0.2:8080");
    lab.service(&Service {
        number: 2,
        generation: 1,
        ..Service::default()
    });
    lab.frontend("10.96.0.1:81", Udp, 2, 0);
    lab.frontend(
        "10.96.0.1:82",
        Tcp,
        1,
        Frontend::EXTERNAL | Frontend::SOURCE_RANGES,
    );
    lab
}

#[test]
fn a_drop_says_what_and_where_and_why() {
    use EventKind::{Drop, Refusal};
    let mut lab = lab();
    let none = Event::NO_SERVICE;
    let process = "192.168.0.10:40000";
    let table = [
        (
            ONE,
            Frame::udp(CLIENT, "10.96.0.1:81"),
            (Refusal, Reason::NoEndpoints, Site::FromPod, 2, 17),
        ),
        (
            ONE,
            syn(CLIENT, "10.96.0.1:9"),
            (Refusal, Reason::UnknownPort, Site::FromPod, none, 6),
        ),
        (
            NET,
            syn("[2001:db8::1]:1", "[fd96::1]:9"),
            (Refusal, Reason::UnknownPort, Site::FromNet, none, 6),
        ),
        (
            NET,
            syn(OUTSIDE, "10.96.0.1:82"),
            (Drop, Reason::SourceRange, Site::FromNet, 1, 6),
        ),
        (
            OUT,
            syn(process, "10.96.0.1:9"),
            (Drop, Reason::UnknownPort, Site::ToNet, none, 6),
        ),
    ];
    for (At(program, ifindex), frame, (kind, reason, site, service, protocol)) in &table {
        lab.run(program, *ifindex, frame);
        let (events, missed) = lab.events();
        assert_eq!((events.len(), missed), (1, 0), "{reason:?} {site:?}");
        let event = events[0];
        assert_eq!(
            (event.kind(), event.reason(), event.site()),
            (Some(*kind), Some(*reason), Some(*site))
        );
        assert_eq!((event.service, event.protocol), (*service, *protocol));
        assert_eq!((event.ifindex, event.netns), (*ifindex, 0));
        assert_eq!(event.source(), endpoint(&frame.src.to_string()));
        assert_eq!(event.destination(), endpoint(&frame.dst.to_string()));
        assert!(event.time > 0);
    }
}

#[test]
fn of_a_packet_that_cannot_be_read_no_address_is_told() {
    let mut lab = lab();
    lab.run("from_pod", POD_1, &syn(CLIENT, "10.96.0.1:9"));
    let mut bytes = syn(CLIENT, "10.96.0.1:80").bytes();
    // A header of four words.
    bytes[14] = 0x44;
    lab.run_bytes("from_pod", POD_1, &bytes);
    let (events, _) = lab.events();
    assert_eq!(events.len(), 2);
    let expected = Event {
        ifindex: POD_1,
        ..Event::new(
            EventKind::Drop,
            Reason::Malformed,
            Site::FromPod,
            events[1].time,
        )
    };
    assert_eq!(events[1], expected);
}

#[test]
fn what_gets_through_is_nobodys_news() {
    let mut lab = lab();
    for frame in [
        syn(CLIENT, "10.96.0.1:80"),
        syn(CLIENT, "10.1.0.2:8080"),
        Frame::udp(CLIENT, "198.51.100.7:53"),
        Frame::new(CLIENT, "10.1.0.2:8080", Body::Sctp),
    ] {
        lab.run("from_pod", POD_1, &frame);
    }
    assert_eq!(lab.events(), (vec![], 0));
}

/// On each processor 100 at once; the rest is a number.
#[test]
fn a_flood_is_told_of_in_samples() {
    let mut lab = lab();
    const FLOOD: u64 = 5000;
    let frame = syn(OUTSIDE, "10.96.0.1:9");
    for _ in 0..FLOOD {
        lab.run("from_net", UPLINK, &frame);
    }
    let (events, missed) = lab.events();
    let told = events.len() as u64;
    assert_eq!(told + missed, FLOOD);
    assert_eq!(lab.reason(Reason::UnknownPort), FLOOD);
    assert!(told >= 100, "{told}");
    assert!(missed >= FLOOD / 2, "{missed} missed");
    assert!(events.is_sorted_by_key(|event| event.time));
}

/// The one that was told.
#[track_caller]
fn begun(lab: &mut Lab) -> Beginning {
    let (told, missed) = lab.beginnings();
    assert_eq!((told.len(), missed), (1, 0), "{told:?}");
    told[0]
}

#[track_caller]
fn nothing_begins(lab: &mut Lab, what: &str) {
    assert_eq!(lab.beginnings(), (vec![], 0), "{what}");
}

#[track_caller]
fn expect_begun(begun: &Beginning, kind: EventKind, site: Site, from: Tuple, to: Tuple) {
    let event = &begun.event;
    assert_eq!((event.kind(), event.site()), (Some(kind), Some(site)));
    assert_eq!(event.reason(), None);
    assert_eq!(event.source(), from.source());
    assert_eq!(event.destination(), from.destination());
    assert_eq!((event.protocol, begun.to), (from.protocol, to));
    assert!(event.time > 0);
}

#[test]
fn a_flow_is_told_of_once() {
    let mut lab = lab();
    lab.identity("10.1.0.1", 7);
    lab.identity("10.1.0.2", 8);
    lab.followed();
    lab.run("from_pod", POD_1, &syn(CLIENT, "10.96.0.1:80"));
    let told = begun(&mut lab);
    let from = tuple(CLIENT, "10.96.0.1:80", Tcp);
    let to = tuple(CLIENT, "10.1.0.2:8080", Tcp);
    expect_begun(&told, EventKind::Translate, Site::FromPod, from, to);
    assert_eq!((told.event.service, told.event.ifindex), (1, POD_1));
    assert_eq!(told.identities, [7, 8]);
    for frame in [
        syn(CLIENT, "10.96.0.1:80"),
        Frame::tcp(CLIENT, "10.96.0.1:80", State::ACK),
    ] {
        lab.run("from_pod", POD_1, &frame);
    }
    lab.run(
        "from_pod",
        POD_2,
        &Frame::tcp("10.1.0.2:8080", CLIENT, State::SYN | State::ACK),
    );
    nothing_begins(&mut lab, "packets of the flow");
    // Past services and policies nothing is written down.
    lab.run("from_pod", POD_1, &syn(CLIENT, "10.1.0.2:9"));
    nothing_begins(&mut lab, "from pod to pod");
    lab.run("from_pod", POD_1, &syn("10.1.0.1:40001", "10.96.0.1:9"));
    nothing_begins(&mut lab, "what is refused");
}

#[test]
fn what_comes_from_outside_is_told_of_where_it_was_seen() {
    for (program, site) in [("from_net", Site::FromNet), ("from_wire", Site::FromWire)] {
        let mut lab = Lab::with_one_uplink();
        lab.own_addresses();
        lab.uplink(UPLINK, 1500);
        lab.simple_service(1, "0.0.0.0:30080", Tcp, "10.2.0.7:8080");
        lab.frontend("0.0.0.0:30080", Tcp, 1, Frontend::EXTERNAL);
        lab.followed();
        let (client, at) = ("192.0.2.1:61234", "192.168.0.10:30080");
        lab.run(program, UPLINK, &syn(client, at));
        let told = begun(&mut lab);
        let to = tuple("192.168.0.10:61234", "10.2.0.7:8080", Tcp);
        expect_begun(
            &told,
            EventKind::Translate,
            site,
            tuple(client, at, Tcp),
            to,
        );
        lab.run("from_net", UPLINK, &syn(client, at));
        nothing_begins(&mut lab, "it is known there too");
    }
}

#[test]
fn what_leaves_the_cluster_is_told_of_with_its_new_source() {
    let mut lab = Lab::with(Options {
        masquerade: true,
        ..Options::default()
    });
    lab.pod("10.1.0.1", POD_1, 0);
    lab.own_addresses();
    lab.followed();
    let far = "203.0.113.7:53";
    for _ in 0..2 {
        lab.run_forwarded("to_net", POD_1, UPLINK, &Frame::udp(CLIENT, far));
    }
    let told = begun(&mut lab);
    let to = told.to;
    assert_eq!(to.src, ip(NODE_V4));
    let from = tuple(CLIENT, far, Udp);
    expect_begun(&told, EventKind::Masquerade, Site::ToNet, from, to);
    assert_eq!(to.destination(), from.destination());
    assert_eq!(
        (told.event.service, told.event.ifindex),
        (Event::NO_SERVICE, UPLINK)
    );
}

#[test]
fn what_policies_let_begin_is_told_of_with_both_identities() {
    let mut lab = lab();
    let set = RuleSet::new(PolicyType::Ingress, 1).unwrap();
    lab.identity("10.1.0.1", 7);
    lab.let_port(set, Peer::identity(7), Udp, 53);
    lab.hold("10.1.0.2", 1, 0);
    lab.followed();
    let server = "10.1.0.2:53";
    for _ in 0..2 {
        lab.run("from_pod", POD_1, &Frame::udp(CLIENT, server));
        lab.run("from_pod", POD_2, &Frame::udp(server, CLIENT));
    }
    let told = begun(&mut lab);
    let both = tuple(CLIENT, server, Udp);
    expect_begun(&told, EventKind::Allow, Site::FromPod, both, both);
    assert_eq!(told.identities, [7, 0]);
    lab.run("from_pod", POD_1, &Frame::udp(CLIENT, "10.1.0.2:54"));
    nothing_begins(&mut lab, "what is dropped");
    let (drops, _) = lab.events();
    assert_eq!(drops[0].reason(), Some(Reason::PolicyIngress));
}

#[test]
fn nobody_is_told_when_nobody_follows() {
    let mut lab = lab();
    lab.run("from_pod", POD_1, &syn(CLIENT, "10.96.0.1:80"));
    nothing_begins(&mut lab, "nobody ever did");
    // A reader that was killed: its time is over.
    lab.followed_until(1);
    lab.run("from_pod", POD_1, &syn("10.1.0.1:40001", "10.96.0.1:80"));
    nothing_begins(&mut lab, "nobody does any more");
    lab.followed();
    lab.run("from_pod", POD_1, &syn("10.1.0.1:40002", "10.96.0.1:80"));
    begun(&mut lab);
}

/// A follower hears of 100 at once and 2,000 a second on each processor; the rest is a
/// number, and drops keep their place.
#[test]
fn a_flood_of_beginnings_is_told_of_in_samples() {
    let mut lab = lab();
    lab.followed();
    const FLOOD: u64 = 5000;
    for port in 0..FLOOD {
        let client = format!("10.1.0.1:{}", 10_000 + port);
        lab.run("from_pod", POD_1, &syn(&client, "10.96.0.1:80"));
    }
    lab.run("from_pod", POD_1, &syn(CLIENT, "10.96.0.1:9"));
    let (told, missed) = lab.beginnings();
    assert_eq!(told.len() as u64 + missed, FLOOD);
    assert!(told.len() >= 100, "{}", told.len());
    assert_eq!(lab.events().0.len(), 1);
}

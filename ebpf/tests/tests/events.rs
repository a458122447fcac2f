//! What the programs tell of drops and refusals, one by one.

use vetch_ebpf_common::{
    Event, EventKind, Frontend,
    Protocol::{Tcp, Udp},
    Reason, Site, addresses,
};
use vetch_ebpf_tests::{At, Body, Frame, Lab, POD_1, POD_2, Service, UPLINK, endpoint, syn};

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

//! The backend with fewer live connections of two, by packet; and what is
//! counted for it.

use vetch_ebpf_common::{
    BackendKey, Live,
    Protocol::{self, Tcp, Udp},
    State, Terms, maps,
};
use vetch_ebpf_tests::{At, Body, Frame, Lab, POD_1, POD_2, Raw, Service, endpoint, syn};

const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const FIN: u8 = State::FIN;
const RST: u8 = State::RST;

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const VIP: &str = "10.96.0.1:80";
const A: &str = "10.1.0.2:8080";
const B: &str = "10.1.0.3:8080";

fn lab(flags: u32, backends: &[&str]) -> Lab {
    let mut lab = Lab::new();
    for (address, ifindex) in [
        ("10.1.0.1", POD_1),
        ("10.1.0.2", POD_2),
        ("10.1.0.3", POD_2),
    ] {
        lab.pod(address, ifindex, 0);
    }
    lab.service(&Service {
        number: 1,
        generation: 1,
        terms: Terms::new(flags, 0),
        cluster: backends,
        ..Service::default()
    });
    for protocol in [Tcp, Udp] {
        lab.frontend(VIP, protocol, 1, 0);
    }
    lab
}

fn key(backend: &str) -> Raw<BackendKey> {
    Raw(BackendKey::new(1, endpoint(backend)))
}

fn set_sockets(lab: &mut Lab, backend: &str, count: i64) {
    let live = Live { count, epoch: 9 };
    lab.hash(maps::LIVE_SOCKETS)
        .insert(key(backend), Raw(live), 0)
        .unwrap();
}

/// Of flows; None if none was ever counted.
fn flows(lab: &mut Lab, backend: &str) -> Option<i64> {
    let map = lab.hash::<BackendKey, i64>(maps::LIVE_FLOWS);
    map.get(&key(backend), 0).ok().map(|count| count.0)
}

fn client(port: u16) -> String {
    format!("10.1.0.1:{port}")
}

/// Who gets the first packet of a client with this port.
fn dial(lab: &Lab, protocol: Protocol, port: u16) -> &'static str {
    let frame = match protocol {
        Tcp => syn(&client(port), VIP),
        _ => Frame::udp(&client(port), VIP),
    };
    let At(program, ifindex) = ONE;
    let out = lab.run(program, ifindex, &frame).bytes;
    // Of the IPv4 header, behind Ethernet's.
    match out[14 + 16..14 + 20] {
        [10, 1, 0, 2] => A,
        [10, 1, 0, 3] => B,
        ref other => panic!("sent to {other:?}"),
    }
}

fn says(lab: &Lab, port: u16, flags: u8) {
    let At(program, ifindex) = ONE;
    lab.run(program, ifindex, &Frame::tcp(&client(port), VIP, flags));
}

fn answers(lab: &Lab, backend: &str, port: u16, flags: u8) {
    let At(program, ifindex) = TWO;
    lab.run(program, ifindex, &Frame::tcp(backend, &client(port), flags));
}

#[test]
fn new_clients_go_where_fewer_are() {
    for protocol in [Tcp, Udp] {
        let mut lab = lab(Terms::LEAST, &[A, B]);
        set_sockets(&mut lab, A, 5);
        // Until both have as many; sockets' and flows' count alike.
        for n in 0..5 {
            assert_eq!(dial(&lab, protocol, 40_000 + n), B, "{protocol:?} {n}");
        }
        assert_eq!(flows(&mut lab, B), Some(5));
        let first = dial(&lab, protocol, 40_010);
        let second = dial(&lab, protocol, 40_011);
        assert_ne!(first, second, "whoever got one is not the next");
        // A count that went wrong is not better than none.
        set_sockets(&mut lab, A, -100);
        set_sockets(&mut lab, B, -100);
        let mut seen = [A, B].map(|backend| (backend, 0));
        for n in 0..60 {
            let to = dial(&lab, protocol, 41_000 + n);
            let (_, count) = seen.iter_mut().find(|(name, _)| *name == to).unwrap();
            *count += 1;
        }
        assert!(seen.iter().all(|(_, count)| *count > 10), "{seen:?}");
    }
}

#[test]
fn who_does_not_ask_for_it_is_not_counted() {
    let mut lab = lab(0, &[A, B]);
    set_sockets(&mut lab, A, 1_000);
    let to_a = (0..60).filter(|n| dial(&lab, Tcp, 40_000 + n) == A).count();
    assert!((10..=50).contains(&to_a), "{to_a} of 60");
    assert_eq!((flows(&mut lab, A), flows(&mut lab, B)), (None, None));
}

#[test]
fn a_flow_is_live_until_its_end_is_seen() {
    for (what, end) in [
        ("client first", &[(true, FIN | ACK), (false, FIN | ACK)][..]),
        ("backend first", &[(false, FIN | ACK), (true, FIN | ACK)]),
        ("client resets", &[(true, RST)]),
        ("backend resets", &[(false, RST | ACK)]),
    ] {
        let mut lab = lab(Terms::LEAST, &[A]);
        assert_eq!(dial(&lab, Tcp, 40_000), A);
        assert_eq!(dial(&lab, Tcp, 40_001), A);
        answers(&lab, A, 40_000, SYN | ACK);
        says(&lab, 40_000, ACK);
        // Sent again.
        says(&lab, 40_000, SYN);
        assert_eq!(flows(&mut lab, A), Some(2), "{what}");
        for (n, (client, flags)) in end.iter().enumerate() {
            assert_eq!(flows(&mut lab, A), Some(2), "{what}, {n}");
            if *client {
                says(&lab, 40_000, *flags);
            } else {
                answers(&lab, A, 40_000, *flags);
            }
        }
        assert_eq!(flows(&mut lab, A), Some(1), "{what}");
        // The last words, once more.
        says(&lab, 40_000, FIN | ACK);
        answers(&lab, A, 40_000, FIN | ACK);
        assert_eq!(flows(&mut lab, A), Some(1), "{what}: it ended once");
        // The port is used again.
        says(&lab, 40_000, SYN);
        assert_eq!(flows(&mut lab, A), Some(2), "{what}");
    }
}

#[test]
fn a_flow_that_another_takes_the_place_of_is_none() {
    let mut lab = lab(Terms::LEAST, &[A]);
    // Not answered, and over: the next on that port is another.
    assert_eq!(dial(&lab, Udp, 40_000), A);
    assert_eq!(flows(&mut lab, A), Some(1));
    lab.flows_age(31);
    assert_eq!(dial(&lab, Udp, 40_000), A);
    assert_eq!(flows(&mut lab, A), Some(1));
}

/// Both directions, of TCP and datagrams, the first packet too.
#[test]
fn packets_are_counted_by_service_and_direction() {
    let lab = lab(0, &[A]);
    let udp = |src: &str, dst: &str, payload| Frame::new(src, dst, Body::Udp { payload });
    let (to, from) = (
        udp(&client(40_000), VIP, 100),
        udp(A, &client(40_000), 1_000),
    );
    let traffic = |lab: &Lab| {
        let traffic = lab.traffic(1);
        (traffic.connections, traffic.bytes_in, traffic.bytes_out)
    };
    let mut expected = (0, 0, 0);
    for _ in 0..3 {
        lab.run(ONE.0, ONE.1, &to);
        lab.run(TWO.0, TWO.1, &from);
        // IP and UDP headers.
        expected = (1, expected.1 + 128, expected.2 + 1_028);
        assert_eq!(traffic(&lab), expected);
    }
    dial(&lab, Tcp, 40_000);
    answers(&lab, A, 40_000, SYN | ACK);
    let grown = traffic(&lab);
    assert_eq!(
        (grown.0, grown.1 - expected.1, grown.2 - expected.2),
        (2, 40, 40)
    );
    // Not of a service.
    lab.run(ONE.0, ONE.1, &udp(&client(40_002), B, 100));
    assert_eq!(traffic(&lab), grown);
}

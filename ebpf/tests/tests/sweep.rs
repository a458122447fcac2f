//! What a sweep of the connection tables takes, and what it leaves; and tables
//! so small that the kernel drops entries all the time.

use std::time::{Duration, Instant};

use vetch_ebpf_common::{
    Affinity, AffinityKey, Flow, FragmentKey, FragmentPorts, Frontend, Phase,
    Protocol::{self, Tcp, Udp},
    Reason, State, Sweep, Terms, Tuple, maps,
};
use vetch_ebpf_tests::{
    At, Frame, Lab, Options, POD_1, POD_2, Raw, Service, To, UPLINK, endpoint, ip, syn, tuple,
};

const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const RST: u8 = State::RST;
const SECOND: u64 = 1_000_000_000;

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const NET: At = At("from_net", UPLINK);
const VIP: &str = "10.96.0.1:80";
const BACKEND: &str = "10.1.0.2:8080";

fn lab() -> Lab {
    node(Lab::new())
}

fn node(mut lab: Lab) -> Lab {
    lab.pod("10.1.0.1", POD_1, 0);
    lab.pod("10.1.0.2", POD_2, 0);
    lab.own_addresses();
    lab.simple_service(1, VIP, Tcp, BACKEND);
    lab.simple_service(1, VIP, Udp, BACKEND);
    lab.serving(1, BACKEND, true);
    lab
}

fn client(port: u16) -> String {
    format!("10.1.0.1:{port}")
}

/// `CLOCK_BOOTTIME` in nanoseconds, to a hundredth of a second.
fn boot_time() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    (seconds * SECOND as f64) as u64
}

/// A conversation of which the backend's answer may have been seen.
fn talk(lab: &Lab, protocol: Protocol, port: u16, answered: bool) -> Tuple {
    let (question, answer) = match protocol {
        Tcp => (
            syn(&client(port), VIP),
            Frame::tcp(BACKEND, &client(port), SYN | ACK),
        ),
        _ => (
            Frame::udp(&client(port), VIP),
            Frame::udp(BACKEND, &client(port)),
        ),
    };
    let asked = question.clone().dst(BACKEND);
    lab.expect(ONE, "question", &question, To::Pod(POD_2), &asked);
    if answered {
        let told = answer.clone().src(VIP);
        lab.expect(TWO, "answer", &answer, To::Pod(POD_1), &told);
    }
    tuple(&client(port), VIP, protocol)
}

fn change(lab: &mut Lab, key: Tuple, change: impl FnOnce(&mut Flow)) {
    let mut flow = lab.flow(&key);
    change(&mut flow);
    lab.set_flow(key, flow);
}

/// As if nothing had come for so long. A new machine has not been up for the
/// longer lives.
fn idle(lab: &mut Lab, key: Tuple, seconds: u64) {
    change(lab, key, |flow| flow.seen -= seconds * SECOND);
}

fn other_half(lab: &mut Lab, key: Tuple) -> Tuple {
    lab.flow(&key).to.reverse()
}

#[test]
fn what_is_over_goes_and_the_rest_stays() {
    let mut lab = lab();
    let over = talk(&lab, Udp, 1, false);
    let young = talk(&lab, Udp, 2, false);
    let answered = talk(&lab, Udp, 3, true);
    let one_half_seen = talk(&lab, Udp, 4, false);
    let reset = talk(&lab, Tcp, 5, true);
    let reset_here = talk(&lab, Tcp, 6, true);
    let open = talk(&lab, Tcp, 7, true);
    for key in [over, answered, reset, reset_here, open] {
        let twin = other_half(&mut lab, key);
        idle(&mut lab, key, 31);
        idle(&mut lab, twin, 31);
    }
    idle(&mut lab, young, 29);
    idle(&mut lab, one_half_seen, 31);
    let reset_by = |flow: &mut Flow| flow.state = flow.state.after(flow.direction(), RST);
    let twin = other_half(&mut lab, reset);
    change(&mut lab, reset, reset_by);
    change(&mut lab, twin, reset_by);
    // What one half knows is enough, whichever the walk meets first.
    change(&mut lab, reset_here, reset_by);

    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.orphans), (3, 0), "{swept:?}");
    let flows = lab.flows();
    for (key, stays) in [
        (over, false),
        (young, true),
        (answered, true),
        (one_half_seen, true),
        (reset, false),
        (reset_here, false),
        (open, true),
    ] {
        assert_eq!(flows.contains_key(&key), stays, "{key:?}");
    }
    assert_eq!(flows.len(), 8);
    let live = |protocol: Protocol, phase| swept.live[Sweep::index(protocol as u8, phase)];
    assert_eq!(live(Udp, Phase::New), 2);
    assert_eq!(live(Udp, Phase::Answered), 1);
    assert_eq!(live(Tcp, Phase::Answered), 1);

    // The first may have met a half before the other told that it was reset.
    let again = lab.sweep();
    assert_eq!((again.expired, again.replies, again.flows()), (0, 4, 8));
}

#[test]
fn a_half_that_has_lost_its_other_goes_alone() {
    let mut lab = lab();
    let clients = talk(&lab, Udp, 1, false);
    let backends = talk(&lab, Udp, 2, false);
    let twins = [clients, backends].map(|key| other_half(&mut lab, key));
    lab.drop_flow(twins[0]);
    lab.drop_flow(backends);
    assert_eq!(lab.sweep().flows(), 2, "both may be brought back");
    idle(&mut lab, clients, 31);
    idle(&mut lab, twins[1], 31);
    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.orphans), (2, 2));
    assert_eq!(lab.flows().len(), 0);
}

/// A tuple that is another flow's by now is left to it.
#[test]
fn a_tuple_taken_over_stays() {
    let mut lab = lab();
    let key = talk(&lab, Udp, 1, false);
    let reply = other_half(&mut lab, key);
    let other = tuple(&client(2), VIP, Udp);
    change(&mut lab, reply, |flow| flow.to = other.reverse());
    idle(&mut lab, key, 31);
    let swept = lab.sweep();
    assert_eq!((swept.expired, swept.orphans), (1, 1));
    let left: Vec<Tuple> = lab.flows().into_keys().collect();
    assert_eq!(left, [reply]);
}

#[test]
fn affinity_and_fragments_end_with_their_time() {
    let mut lab = lab();
    let service = |number, flags| Service {
        number,
        generation: 1,
        terms: Terms::new(flags, 10),
        cluster: &[BACKEND],
        ..Service::default()
    };
    lab.service(&service(2, Terms::AFFINITY));
    lab.service(&service(3, 0));
    let boot = boot_time();
    for (client, service, ago) in [(1, 2, 9), (2, 2, 11), (3, 3, 0), (4, 999, 0)] {
        let key = AffinityKey::new(ip(&format!("10.1.0.{client}")), service);
        let affinity = Affinity {
            backend: endpoint(BACKEND),
            seen: boot - ago * SECOND,
        };
        lab.hash(maps::AFFINITY)
            .insert(Raw(key), Raw(affinity), 0)
            .unwrap();
    }
    let key = talk(&lab, Udp, 1, false);
    let clock = lab.flow(&key).seen;
    for (id, ago) in [(1, 0), (2, 59), (3, 61)] {
        let key = FragmentKey::new(ip("10.1.0.1"), ip("10.1.0.2"), id, 17);
        let ports = FragmentPorts::new(7, clock - ago * SECOND);
        lab.hash(maps::FRAGMENTS)
            .insert(Raw(key), Raw(ports), 0)
            .unwrap();
    }
    let swept = lab.sweep();
    assert_eq!((swept.affinity, swept.affinity_expired), (1, 3));
    assert_eq!((swept.fragments, swept.fragments_expired), (2, 1));
    let left = lab.hash::<AffinityKey, Affinity>(maps::AFFINITY);
    let left: Vec<AffinityKey> = left.keys().map(|key| key.unwrap().0).collect();
    assert_eq!(left, [AffinityKey::new(ip("10.1.0.1"), 2)]);
    assert_eq!(lab.sweep().fragments, 2);
}

const SMALL: Options = Options {
    ports: (61000, 65535),
    link: 0,
    flows: 128,
    direct: false,
    masquerade: false,
};

/// 5,000 clients meet a table of 64 conversations: everyone is served, and
/// those that were there before go on, whichever half of theirs was dropped.
#[test]
fn a_table_that_is_full_all_the_time_loses_nobody() {
    let mut lab = node(Lab::with(SMALL));
    let old = [1, 2, 3, 4];
    for port in old {
        talk(&lab, Tcp, port, true);
    }
    let ack = |port: u16| {
        let question = Frame::tcp(&client(port), VIP, ACK);
        let asked = question.clone().dst(BACKEND);
        lab.expect(ONE, "goes on", &question, To::Pod(POD_2), &asked);
        let answer = Frame::tcp(BACKEND, &client(port), ACK);
        let told = answer.clone().src(VIP);
        lab.expect(TWO, "is answered", &answer, To::Pod(POD_1), &told);
    };
    for port in 1000..6000 {
        talk(&lab, if port % 2 == 0 { Tcp } else { Udp }, port, true);
        // Rarely enough to be among the least used.
        if port % 250 == 0 {
            old.into_iter().for_each(ack);
        }
    }
    let flows = lab.flows().len();
    assert!(flows <= 128, "{flows}");
    for reason in Reason::ALL {
        assert_eq!(lab.reason(*reason), 0, "{reason:?}");
    }
    let swept = lab.sweep();
    assert_eq!(swept.flows() as usize, flows, "{swept:?}");
}

/// Clients outside whose source becomes the node's, eight at a time, in a table
/// of 64 conversations.
#[test]
fn eight_ports_in_a_full_table_are_eight_conversations() {
    const FAR: &str = "10.2.0.7:8080";
    const NODE_PORT: &str = "192.168.0.10:30080";
    let mut lab = node(Lab::with(Options {
        ports: (61000, 61007),
        ..SMALL
    }));
    lab.service(&Service {
        number: 5,
        generation: 1,
        cluster: &[FAR],
        ..Service::default()
    });
    lab.frontend("0.0.0.0:30080", Tcp, 5, Frontend::EXTERNAL);
    let outside = |n: u16| format!("192.0.2.{}:{}", n % 200 + 1, 1000 + n);
    let send = |lab: &Lab, n, flags| {
        let frame = Frame::tcp(&outside(n), NODE_PORT, flags);
        lab.run("from_net", UPLINK, &frame).verdict
    };
    for round in 0..100 {
        let eight = round * 9..round * 9 + 8;
        for n in eight.clone() {
            assert_ne!(send(&lab, n, SYN), vetch_ebpf_tests::DROP, "{n}");
        }
        let ninth = syn(&outside(round * 9 + 8), NODE_PORT);
        lab.expect_dropped(NET, "the ninth", &ninth);
        assert_eq!(lab.reason(Reason::SourcePorts), u64::from(round) + 1);
        // Closed, a port is another's.
        for n in eight {
            assert_ne!(send(&lab, n, RST), vetch_ebpf_tests::DROP, "{n}");
        }
    }
    for reason in Reason::ALL {
        if *reason != Reason::SourcePorts {
            assert_eq!(lab.reason(*reason), 0, "{reason:?}");
        }
    }
    let (events, missed) = lab.events();
    assert_eq!(events.len() as u64 + missed, 100);
    assert!(
        events
            .iter()
            .all(|event| event.reason() == Some(Reason::SourcePorts))
    );
}

/// A figure, not a promise.
#[test]
#[ignore = "measures"]
fn the_time_of_a_sweep() {
    let mut lab = lab();
    let time = |lab: &Lab, what: &str| {
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let started = Instant::now();
                lab.sweep();
                started.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "{what}: {} flows, median {:?}",
            lab.sweep().flows(),
            times[4]
        );
    };
    time(&lab, "empty");
    let key = talk(&lab, Tcp, 1, true);
    let flow = lab.flow(&key);
    for n in 0..60_000_u32 {
        let client = endpoint(&format!(
            "10.{}.{}.1:{}",
            n >> 12 & 255,
            n & 255,
            1 + (n >> 4)
        ));
        let key = Tuple::new(client, endpoint(VIP), 6);
        let mut flow = flow;
        flow.to = Tuple::new(client, endpoint(BACKEND), 6);
        let (twin_key, twin) = flow.twin(&key);
        lab.set_flow(key, flow);
        lab.set_flow(twin_key, twin);
    }
    time(&lab, "nearly full");
}

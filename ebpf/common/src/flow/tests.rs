use super::*;
use crate::{Address, Endpoint};

const MINUTE: u64 = 60 * SECOND;
const UDP: u8 = 17;
const TCP: u8 = 6;
const SCTP: u8 = 132;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const FIN: u8 = State::FIN;
const RST: u8 = State::RST;

fn end(last: u8, port: u16) -> Endpoint {
    Endpoint::new(Address::v4([10, 0, 0, last]), port.to_be_bytes())
}

/// A client's packets to a service at 10.0.0.9:53, rewritten.
fn flow(protocol: u8, state: State) -> (Tuple, Flow) {
    let key = Tuple::new(end(1, 4000), end(9, 53), protocol);
    let to = Tuple::new(end(3, 61000), end(2, 5353), protocol);
    let flow = Flow {
        state,
        ..Flow::new(to, 7, 3, 0, 1000 * SECOND)
    };
    (key, flow)
}

/// Whose, and TCP's flags.
type Packets<'a> = &'a [(Direction, u8)];

fn state(packets: Packets<'_>) -> State {
    packets
        .iter()
        .fold(State::new(), |state, (direction, flags)| {
            state.after(*direction, *flags)
        })
}

#[test]
fn a_twin_makes_its_twin() {
    let (key, flow) = flow(TCP, State::new());
    let (twin_key, twin) = flow.twin(&key);
    assert_eq!(twin_key, Tuple::new(end(2, 5353), end(3, 61000), TCP));
    assert_eq!(twin.to, Tuple::new(end(9, 53), end(1, 4000), TCP));
    assert_eq!(
        (flow.direction(), twin.direction()),
        (Direction::Original, Direction::Reply)
    );
    assert_eq!(twin.twin(&twin_key), (key, flow));
}

#[test]
fn both_halves_know_that_they_cross_the_border() {
    let (key, mut flow) = flow(TCP, State::new());
    assert!(!flow.is_outside());
    flow.cross_border();
    let (twin_key, twin) = flow.twin(&key);
    assert!(flow.is_outside() && twin.is_outside());
    assert_eq!(twin.direction(), Direction::Reply);
    assert_eq!(twin.twin(&twin_key), (key, flow));
}

#[test]
fn lifetimes_follow_what_the_ends_say() {
    let (o, r) = (Direction::Original, Direction::Reply);
    let table: &[(&str, u8, Packets<'_>, u64)] = &[
        ("tcp asked", TCP, &[(o, SYN)], 120),
        ("tcp answered", TCP, &[(o, SYN), (r, SYN | ACK)], 133 * 60),
        (
            "half closed",
            TCP,
            &[(o, SYN), (r, SYN | ACK), (o, FIN | ACK)],
            3600,
        ),
        (
            "half closed by the backend",
            TCP,
            &[(o, SYN), (r, SYN | ACK), (r, FIN | ACK)],
            3600,
        ),
        (
            "closed",
            TCP,
            &[(r, ACK), (o, FIN | ACK), (r, FIN | ACK)],
            120,
        ),
        (
            "the last ACK changes nothing",
            TCP,
            &[(r, FIN), (o, FIN), (r, ACK)],
            120,
        ),
        ("reset by the client", TCP, &[(r, ACK), (o, RST)], 10),
        ("refused", TCP, &[(o, SYN), (r, RST | ACK)], 10),
        ("reset while closing", TCP, &[(r, FIN), (o, RST)], 10),
        ("udp asked", UDP, &[(o, 0)], 30),
        ("udp answered", UDP, &[(o, 0), (r, 0)], 120),
        ("echo asked", ICMP, &[(o, 0)], 30),
        ("echo answered", ICMPV6, &[(o, 0), (r, 0)], 30),
        ("sctp asked", SCTP, &[(o, 0)], 30),
        ("sctp answered", SCTP, &[(o, 0), (r, 0)], 210),
    ];
    for (name, protocol, packets, seconds) in table {
        let state = state(packets);
        assert_eq!(state.lifetime(*protocol), seconds * SECOND, "{name}");
        let (_, flow) = flow(*protocol, state);
        let end = flow.seen + seconds * SECOND;
        assert!(!flow.is_over(end), "{name}");
        assert!(flow.is_over(end + 1), "{name}");
        assert!(!flow.is_over(flow.seen - 1), "{name}: a clock behind");
    }
}

/// TCP's flags of the client's packets, the first one's too.
#[test]
fn of_answers_that_go_another_way_the_client_tells() {
    let table: &[(&str, u8, &[u8], Phase, u64)] = &[
        ("tcp asked", TCP, &[SYN], Phase::New, 120),
        ("asked again", TCP, &[SYN, SYN], Phase::New, 120),
        ("acknowledged", TCP, &[SYN, ACK], Phase::Answered, 133 * 60),
        ("done", TCP, &[SYN, ACK, FIN | ACK, ACK], Phase::Closed, 120),
        ("reset", TCP, &[SYN, ACK, RST], Phase::Closed, 10),
        ("udp asked", UDP, &[0], Phase::New, 30),
        ("udp goes on", UDP, &[0, 0], Phase::Answered, 120),
    ];
    for (name, protocol, packets, phase, seconds) in table {
        let to = Tuple::new(end(1, 4000), end(2, 5353), *protocol);
        let both = Flow::new(to, 7, 3, packets[0], 1000 * SECOND);
        let mut direct = both;
        direct.answer_directly();
        assert!(direct.is_direct() && !both.is_direct(), "{name}");
        for flags in &packets[1..] {
            direct.state = direct.after(Direction::Original, *flags);
            assert!(!both.after(Direction::Original, *flags).is_answered());
        }
        assert_eq!(direct.state.phase(), *phase, "{name}");
        let lifetime = direct.state.lifetime(*protocol);
        assert_eq!(lifetime, seconds * SECOND, "{name}");
    }
}

#[test]
fn refresh_is_due_once_a_second() {
    let (_, flow) = flow(TCP, State::new());
    assert!(!flow.needs_refresh(flow.seen - 1));
    assert!(!flow.needs_refresh(flow.seen + SECOND - 1));
    assert!(flow.needs_refresh(flow.seen + SECOND));
}

#[test]
fn fates() {
    let (o, r) = (Direction::Original, Direction::Reply);
    let (same, other) = (3, 4);
    let table: &[(&str, u8, Packets<'_>, u64, u8, u32, Fate)] = &[
        ("a segment", TCP, &[(r, ACK)], 1, ACK, same, Fate::Kept),
        (
            "tcp is never cut",
            TCP,
            &[(r, ACK)],
            1,
            ACK,
            other,
            Fate::Kept,
        ),
        (
            "nor after its time",
            TCP,
            &[(r, ACK)],
            200 * MINUTE,
            ACK,
            other,
            Fate::Kept,
        ),
        (
            "nor while closing",
            TCP,
            &[(r, FIN)],
            1,
            ACK,
            other,
            Fate::Kept,
        ),
        ("a SYN again", TCP, &[(o, SYN)], 1, SYN, same, Fate::Kept),
        (
            "a SYN again, backends changed",
            TCP,
            &[(o, SYN)],
            1,
            SYN,
            other,
            Fate::Anew,
        ),
        (
            "a SYN into a connection",
            TCP,
            &[(r, ACK)],
            1,
            SYN,
            other,
            Fate::Kept,
        ),
        (
            "a SYN after a FIN",
            TCP,
            &[(r, ACK), (o, FIN)],
            1,
            SYN,
            same,
            Fate::Anew,
        ),
        (
            "a SYN after a reset",
            TCP,
            &[(r, RST)],
            1,
            SYN,
            same,
            Fate::Anew,
        ),
        (
            "a SYN after its time",
            TCP,
            &[(r, ACK)],
            134 * MINUTE,
            SYN,
            same,
            Fate::Anew,
        ),
        (
            "a SYN that answers",
            TCP,
            &[(r, FIN)],
            1,
            SYN | ACK,
            same,
            Fate::Kept,
        ),
        ("a datagram", UDP, &[(r, 0)], 1, 0, same, Fate::Kept),
        (
            "a datagram, backends changed",
            UDP,
            &[(r, 0)],
            1,
            0,
            other,
            Fate::IfServing,
        ),
        (
            "a datagram after its time",
            UDP,
            &[(r, 0)],
            121 * SECOND,
            0,
            other,
            Fate::Anew,
        ),
        (
            "a chunk, backends changed",
            SCTP,
            &[(r, 0)],
            1,
            0,
            other,
            Fate::Kept,
        ),
        (
            "a chunk after its time",
            SCTP,
            &[(r, 0)],
            211 * SECOND,
            0,
            same,
            Fate::Anew,
        ),
    ];
    for (name, protocol, packets, later, flags, generation, fate) in table {
        let (_, flow) = flow(*protocol, state(packets));
        let found = flow.fate(*flags, flow.seen + later, || *generation);
        assert_eq!(found, *fate, "{name}");
    }
}

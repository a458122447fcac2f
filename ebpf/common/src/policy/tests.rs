use core::net::IpAddr;
use std::{collections::BTreeMap, vec, vec::Vec};

use super::*;
use crate::{Direction, State};

const SECOND: u64 = 1_000_000_000;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Rules with the lengths of their prefixes.
struct Maps {
    identities: BTreeMap<Address, u32>,
    blocks: BTreeMap<Address, u32>,
    rules: Vec<(u32, Rule)>,
}

impl Lookup for Maps {
    fn identity(&self, address: &Address) -> u32 {
        self.identities.get(address).copied().unwrap_or(0)
    }

    fn block(&self, address: &Address) -> u32 {
        self.blocks.get(address).copied().unwrap_or(0)
    }

    fn has(&self, rule: &Rule) -> bool {
        let bytes = |rule: &Rule| {
            let (set, peer) = (rule.set, rule.peer);
            [
                &set.to_ne_bytes()[..],
                &peer.to_ne_bytes(),
                &[rule.protocol, rule.port[0], rule.port[1]],
            ]
            .concat()
        };
        let bit = |bytes: &[u8], at: u32| bytes[at as usize / 8] >> (7 - at % 8) & 1;
        let asked = bytes(rule);
        self.rules.iter().any(|(length, known)| {
            let known = bytes(known);
            (0..*length).all(|at| bit(&known, at) == bit(&asked, at))
        })
    }
}

fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

#[test]
fn rules_name_anybody_identities_and_blocks() {
    let set = |number| RuleSet::new(PolicyType::Ingress, number).unwrap();
    let port = |port: u16| port.to_be_bytes();
    let maps = Maps {
        identities: [(address("10.0.0.1"), 7), (address("10.0.0.2"), 8)].into(),
        blocks: [(address("192.0.2.1"), 7), (address("10.0.0.2"), 9)].into(),
        rules: vec![
            (
                Rule::PORT,
                Rule::new(set(1), Peer::identity(7), TCP, port(80)),
            ),
            // 8080 to 8095.
            (
                Rule::PORT - 4,
                Rule::new(set(1), Peer::block(9), UDP, port(8080)),
            ),
            (Rule::ALL, Rule::new(set(2), Peer::block(7), 0, port(0))),
            (Rule::PROTOCOL, Rule::new(set(2), Peer::ANY, TCP, port(0))),
        ],
    };
    for (number, peer, protocol, to, expected) in [
        (1, "10.0.0.1", TCP, 80, true),
        (1, "10.0.0.1", TCP, 81, false),
        (1, "10.0.0.1", UDP, 80, false),
        (1, "10.0.0.2", TCP, 80, false),
        (1, "192.0.2.1", TCP, 80, false),
        (1, "10.0.0.2", UDP, 8080, true),
        (1, "10.0.0.2", UDP, 8095, true),
        (1, "10.0.0.2", UDP, 8096, false),
        (1, "10.0.0.1", ICMP, 0, false),
        (2, "192.0.2.1", ICMP, 0, true),
        (2, "192.0.2.1", UDP, 53, true),
        (2, "198.51.100.1", UDP, 53, false),
        (2, "198.51.100.1", TCP, 53, true),
        (2, "198.51.100.1", ICMP, 0, false),
        (3, "10.0.0.1", TCP, 80, false),
    ] {
        assert_eq!(
            permits(&maps, set(number), &address(peer), protocol, port(to)),
            expected,
            "{number} {peer} {protocol} {to}"
        );
    }
}

/// A pod in a block, a pod in none, who is in a block and everybody else, each by
/// its own rules.
#[test]
fn an_exact_set_asks_the_most_specific_peer_alone() {
    let set = |number| RuleSet::new(PolicyType::Egress, number | RuleSet::EXACT).unwrap();
    let port = |port: u16| port.to_be_bytes();
    let maps = Maps {
        identities: [(address("10.0.0.1"), 7), (address("10.0.0.2"), 8)].into(),
        blocks: [(address("10.0.0.1"), 9), (address("192.0.2.1"), 9)].into(),
        rules: vec![
            (Rule::ALL, Rule::new(set(1), Peer::ANY, 0, port(0))),
            (
                Rule::PORT,
                Rule::new(set(1), Peer::identity(7), TCP, port(80)),
            ),
            // Protocols 16 to 31.
            (
                Rule::ALL + 4,
                Rule::new(set(1), Peer::block(9), 16, port(0)),
            ),
            (Rule::ALL, Rule::new(set(2), Peer::identity(7), 0, port(0))),
            (Rule::ALL, Rule::new(set(2), Peer::block(9), 0, port(0))),
        ],
    };
    for (number, peer, protocol, to, expected) in [
        (1, "10.0.0.1", TCP, 80, true),
        (1, "10.0.0.1", TCP, 81, false),
        (1, "10.0.0.1", UDP, 53, false),
        (1, "10.0.0.2", TCP, 80, false),
        (1, "192.0.2.1", UDP, 53, true),
        (1, "192.0.2.1", TCP, 80, false),
        (1, "192.0.2.1", ICMP, 0, false),
        (1, "198.51.100.1", ICMP, 0, true),
        (1, "198.51.100.1", TCP, 80, true),
        (2, "10.0.0.1", TCP, 80, true),
        (2, "192.0.2.1", TCP, 80, true),
        (2, "10.0.0.2", TCP, 80, false),
        (2, "198.51.100.1", TCP, 80, false),
    ] {
        assert_eq!(
            permits(&maps, set(number), &address(peer), protocol, port(to)),
            expected,
            "{number} {peer} {protocol} {to}"
        );
    }
}

#[test]
fn sets_of_two_directions_are_apart() {
    let ingress = RuleSet::new(PolicyType::Ingress, 5).unwrap();
    let egress = RuleSet::new(PolicyType::Egress, 5).unwrap();
    assert_ne!(ingress, egress);
    for (set, of) in [(ingress, PolicyType::Ingress), (egress, PolicyType::Egress)] {
        assert_eq!((set.of(), set.number()), (of, 5));
        assert!(!set.is_exact());
        assert_eq!(RuleSet::new(of, 0), None);
        let exact = RuleSet::new(of, 5 | RuleSet::EXACT).unwrap();
        assert!(exact.is_exact() && exact.of() == of);
    }
    assert_eq!(Peer::block(3).as_block(), Some(3));
    assert_eq!(Peer::identity(3).as_block(), None);
}

#[test]
fn what_begins_is_no_answer() {
    for (protocol, first, expected) in [
        (TCP, State::SYN, true),
        (TCP, State::SYN | State::ACK, false),
        (TCP, State::ACK, false),
        (TCP, State::RST, false),
        (UDP, 2, false),
        (ICMP, 8, true),
        (ICMP, 0, false),
        (58, 128, true),
        (58, 129, false),
    ] {
        assert_eq!(opens(protocol, first), expected, "{protocol} {first}");
    }
}

#[test]
fn an_answer_of_the_rules_holds_for_a_tick() {
    let begin = 5 << 30;
    let mut talk = Conversation::new(begin, Direction::Original, State::SYN);
    let (one, other) = (End::Initiator, End::Responder);
    let due = Some(Standing::Due);
    assert_eq!(talk.standing(one, TCP, begin), due, "never asked");
    talk.judge(one, begin);
    assert_eq!(talk.standing(one, TCP, begin), Some(Standing::Holds));
    assert_eq!(talk.standing(other, TCP, begin), due);
    let later = begin + (1 << 30);
    assert_eq!(talk.standing(one, TCP, later - 1), Some(Standing::Holds));
    assert_eq!(talk.standing(one, TCP, later), Some(Standing::Due));
    for (protocol, seconds, expected) in [
        (UDP, 30, Some(Standing::Due)),
        (UDP, 31, None),
        (TCP, 31, Some(Standing::Due)),
        (TCP, 121, None),
        (ICMP, 31, None),
    ] {
        let now = begin + seconds * SECOND;
        let standing = talk.standing(one, protocol, now);
        assert_eq!(standing, expected, "{protocol} after {seconds}");
    }
    let again = Conversation::new(begin, Direction::Original, State::SYN).with_judged(&talk);
    assert_eq!(again.standing(one, TCP, begin), Some(Standing::Holds));
    assert_eq!(talk.aged(SECOND * 3).standing(one, TCP, begin), due);
}

#[test]
fn pods_dial_from_linuxs_range() {
    for (port, expected) in [
        (443, false),
        (32_767, false),
        (32_768, true),
        (60_999, true),
    ] {
        assert_eq!(is_ephemeral(u16::to_be_bytes(port)), expected, "{port}");
    }
}

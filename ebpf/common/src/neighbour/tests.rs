use core::net::{IpAddr, Ipv6Addr};

use super::*;

const OURS: Mac = [2, 0, 0, 0, 0, 1];
const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

fn request(sender: [u8; 4], target: [u8; 4]) -> Arp {
    Arp {
        sender_mac: THEIRS,
        sender,
        ..Arp::announcement(OURS, target)
    }
}

#[test]
fn only_a_request_of_another_asks() {
    let (us, them) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let asked = Some(Address::v4(us));
    for (what, arp, expected) in [
        ("a request", request(them, us), asked),
        ("a probe (RFC 5227)", request([0; 4], us), asked),
        ("an announcement", request(us, us), None),
        ("a reply", request(them, us).answer(OURS), None),
        (
            "from a group's address",
            Arp {
                sender_mac: [1, 0, 0, 0, 0, 2],
                ..request(them, us)
            },
            None,
        ),
        (
            "of another network",
            Arp {
                kinds: [0, 6, 8, 0, 6, 4],
                ..request(them, us)
            },
            None,
        ),
    ] {
        assert_eq!(arp.asked(), expected, "{what}");
    }
}

#[test]
fn an_arp_answer_byte_by_byte() {
    let answer = request([192, 0, 2, 2], [192, 0, 2, 1]).answer(OURS);
    let expected = [
        0, 1, 8, 0, 6, 4, 0, 2, // reply
        2, 0, 0, 0, 0, 1, 192, 0, 2, 1, // from us
        2, 0, 0, 0, 0, 2, 192, 0, 2, 2, // to them
    ];
    assert_eq!(answer.bytes(), expected);
}

fn v6(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

fn solicitation(source: &str, destination: &str, target: &str) -> [u32; Solicitation::WORDS] {
    let mut words = [0; Solicitation::WORDS];
    words[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
    words[1] = u32::from_ne_bytes([0, 32, 58, 255]);
    words[2..6].copy_from_slice(&v6(source).bits());
    words[6..10].copy_from_slice(&v6(destination).bits());
    words[10] = u32::from_ne_bytes([135, 0, 0xab, 0xcd]);
    words[12..].copy_from_slice(&v6(target).bits());
    words
}

#[test]
fn solicitations_are_read_as_strictly_as_rfc_4861_asks() {
    let group = "ff02::1:ff00:1";
    let good = solicitation("fd00::2", group, "fd00::1");
    let with = |index: usize, word: [u8; 4]| {
        let mut words = good;
        words[index] = u32::from_ne_bytes(word);
        words
    };
    for (what, words, reads) in [
        ("as it should be", good, true),
        (
            "unicast",
            solicitation("fd00::2", "fd00::1", "fd00::1"),
            true,
        ),
        ("a probe", solicitation("::", group, "fd00::1"), true),
        (
            "a probe by unicast",
            solicitation("::", "fd00::1", "fd00::1"),
            false,
        ),
        (
            "for a group",
            solicitation("fd00::2", group, "ff02::1"),
            false,
        ),
        ("from another link", with(1, [0, 32, 58, 254]), false),
        ("not ICMPv6", with(1, [0, 32, 17, 255]), false),
        ("too short", with(1, [0, 23, 58, 255]), false),
        ("an advertisement", with(10, [136, 0, 0xab, 0xcd]), false),
        ("with a code", with(10, [135, 1, 0xab, 0xcd]), false),
        ("not IPv6", with(0, [0x45, 0, 0, 0]), false),
    ] {
        assert_eq!(Solicitation::read(&words).is_some(), reads, "{what}");
    }
    let read = Solicitation::read(&good).unwrap();
    assert_eq!((read.target, read.source), (v6("fd00::1"), v6("fd00::2")));
    assert_eq!((read.len, read.is_probe()), (32, false));
}

/// The checksum over pseudo-header and message, by another way than the code's.
fn verify(packet: &[u8; Advertisement::LEN]) {
    let mut sum = 0_u32;
    let message = [&packet[8..40], &[0, 0, 0, 32, 0, 0, 0, 58], &packet[40..]].concat();
    for pair in message.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(sum, 0xffff);
}

#[test]
fn advertisements_byte_by_byte() {
    for (source, to, flags) in [("fd00::2", "fd00::2", 0x60), ("::", "ff02::1", 0x20)] {
        let words = solicitation(source, "ff02::1:ff00:1", "fd00::1");
        let asked = Solicitation::read(&words).unwrap();
        let bytes = Advertisement::answer(&asked, OURS).bytes();
        let target = "fd00::1".parse::<Ipv6Addr>().unwrap().octets();
        let to = to.parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(bytes[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(bytes[8..24], target);
        assert_eq!(bytes[24..40], to);
        assert_eq!(bytes[40..42], [136, 0]);
        assert_eq!(bytes[44..48], [flags, 0, 0, 0]);
        assert_eq!(bytes[48..64], target);
        assert_eq!(bytes[64..], [2, 1, 2, 0, 0, 0, 0, 1]);
        verify(&bytes);
    }
}

#[test]
fn a_probe_is_read_as_one() {
    let (target, group) = (v6("fd00::12ab:cdef"), v6("ff02::1:ffab:cdef"));
    let bytes = neighbour_probe(target, group);
    let mut words = [0; Solicitation::WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap());
    }
    let read = Solicitation::read(&words).unwrap();
    assert_eq!((read.target, read.destination), (target, group));
    assert!(read.is_probe());
    // The checksum: over the pseudo-header and the message nothing is left.
    let mut sum = 0_u32;
    let message = [&bytes[8..40], &[0, 0, 0, 24, 0, 0, 0, 58], &bytes[40..]].concat();
    for pair in message.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    assert_eq!(sum, 0xffff);
    let arp = Arp::probe(OURS, [192, 0, 2, 7]);
    assert_eq!(arp.asked(), Some(Address::v4([192, 0, 2, 7])));
}

#[test]
fn who_says_that_an_address_is_its_own() {
    let (us, them) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let claim = Some((them, THEIRS));
    for (what, packet, expected) in [
        ("an answer", Arp::probe(OURS, them).answer(THEIRS), claim),
        ("a question", request(them, us), claim),
        ("an announcement", Arp::announcement(THEIRS, them), claim),
        ("another's probe", Arp::probe(THEIRS, them), None),
    ] {
        assert_eq!(Arp::claim(&packet.bytes()), expected, "{what}");
    }
    let mut other = Arp::announcement(THEIRS, them).bytes();
    for (at, byte) in [(1, 6), (7, 3)] {
        let kept = core::mem::replace(&mut other[at], byte);
        assert_eq!(Arp::claim(&other), None, "byte {at}");
        other[at] = kept;
    }
    assert_eq!(Arp::claim(&other[..27]), None);
}

#[test]
fn who_advertises_an_address() {
    let words = solicitation("::", "ff02::1:ff00:1", "fd00::1");
    let asked = Solicitation::read(&words).unwrap();
    let answer = Advertisement::answer(&asked, OURS).bytes();
    let message = &answer[40..];
    assert_eq!(
        neighbour_claim(message),
        Some((v6("fd00::1").octets(), OURS))
    );
    // Behind another option.
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let behind = [&message[..24], &nonce, &message[24..]].concat();
    assert!(neighbour_claim(&behind).is_some());
    for (what, at, byte) in [
        ("a solicitation", 0, 135),
        ("with a code", 1, 1),
        ("an option of no length", 25, 0),
        ("an option that is longer than the rest", 25, 2),
    ] {
        let mut other = message.to_vec();
        other[at] = byte;
        assert_eq!(neighbour_claim(&other), None, "{what}");
    }
    for length in [0, 23, 24, 31] {
        assert_eq!(neighbour_claim(&message[..length]), None, "{length}");
    }
}

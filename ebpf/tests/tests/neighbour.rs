//! Who looks on the link for an address that this node announces.

use std::net::Ipv6Addr;

use vetch_ebpf_common::addresses;
use vetch_ebpf_tests::{Lab, Outcome, PASS, REDIRECT, UPLINK, mac, peer_mac};

const OURS: [u8; 6] = mac(UPLINK);
const THEIRS: [u8; 6] = peer_mac(UPLINK);

fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.uplink(UPLINK, 1500);
    for address in ["192.168.0.7", "fd00:ff::7"] {
        lab.address(address, addresses::SERVICE | addresses::ANNOUNCED);
    }
    // A service's, but announced by another node.
    for address in ["192.168.0.8", "fd00:ff::8"] {
        lab.address(address, addresses::SERVICE);
    }
    lab
}

fn run(lab: &Lab, bytes: &[u8]) -> Outcome {
    lab.run_bytes("from_net", UPLINK, bytes)
}

fn untouched(bytes: &[u8]) -> Outcome {
    Outcome {
        verdict: PASS,
        bytes: bytes.to_vec(),
    }
}

fn arp(to: [u8; 6], operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    [
        &to[..],
        &THEIRS,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation],
        &THEIRS,
        &sender,
        &[0; 6],
        &target,
    ]
    .concat()
}

#[test]
fn arp_for_an_announced_address_is_answered() {
    let lab = lab();
    const BROADCAST: [u8; 6] = [0xff; 6];
    let (them, vip) = ([192, 168, 0, 1], [192, 168, 0, 7]);
    for (what, asked, from) in [
        ("all are asked", arp(BROADCAST, 1, them, vip), them),
        ("we are asked", arp(OURS, 1, them, vip), them),
        ("is it taken?", arp(BROADCAST, 1, [0; 4], vip), [0; 4]),
    ] {
        let answer = [
            &THEIRS[..],
            &OURS,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
            &OURS,
            &vip,
            &THEIRS,
            &from,
        ];
        let expected = Outcome {
            verdict: REDIRECT,
            bytes: answer.concat(),
        };
        assert_eq!(run(&lab, &asked), expected, "{what}");
    }
    for (what, frame) in [
        (
            "announced by another",
            arp(BROADCAST, 1, them, [192, 168, 0, 8]),
        ),
        ("nobody's", arp(BROADCAST, 1, them, [192, 168, 0, 9])),
        ("an announcement", arp(BROADCAST, 1, vip, vip)),
        ("an answer", arp(OURS, 2, them, vip)),
        ("too short", arp(BROADCAST, 1, them, vip)[..40].to_vec()),
    ] {
        assert_eq!(run(&lab, &frame), untouched(&frame), "{what}");
    }
    // A link that is no uplink of this node.
    let asked = arp(BROADCAST, 1, them, vip);
    let other = lab.run_bytes("from_net", vetch_ebpf_tests::POD_1, &asked);
    assert_eq!(other, untouched(&asked));
}

struct Message<'a> {
    source: &'a str,
    destination: &'a str,
    hops: u8,
    /// ICMPv6, with a checksum of zero.
    body: Vec<u8>,
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

impl Message<'_> {
    fn frame(&self, to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
        let (source, destination) = (v6(self.source), v6(self.destination));
        let length = self.body.len() as u8;
        let mut body = self.body.clone();
        let summed = [
            &source[..],
            &destination,
            &[0, 0, 0, length, 0, 0, 0, 58],
            &body,
        ]
        .concat();
        let mut sum = 0_u32;
        for pair in summed.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        body[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        [
            &to[..],
            &from,
            &[0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, self.hops],
            &source,
            &destination,
            &body,
        ]
        .concat()
    }
}

fn solicitation<'a>(source: &'a str, destination: &'a str, target: &str) -> Message<'a> {
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend(v6(target));
    if source != "::" {
        body.extend([1, 1]);
        body.extend(THEIRS);
    }
    Message {
        source,
        destination,
        hops: 255,
        body,
    }
}

/// Where solicitations for the announced address go.
const GROUP: &str = "ff02::1:ff00:7";
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 7];

#[test]
fn a_solicitation_for_an_announced_address_is_answered() {
    let lab = lab();
    let (them, vip) = ("fd00:ff::1", "fd00:ff::7");
    let mut with_nonce = solicitation(them, GROUP, vip);
    with_nonce.body.extend([14, 1, 1, 2, 3, 4, 5, 6]);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    for (what, asked, to, destination, flags) in [
        (
            "all are asked",
            solicitation(them, GROUP, vip),
            THEIRS,
            them,
            0x60,
        ),
        (
            "we are asked",
            solicitation(them, vip, vip),
            THEIRS,
            them,
            0x60,
        ),
        ("with a nonce", with_nonce, THEIRS, them, 0x60),
        (
            "is it taken?",
            solicitation("::", GROUP, vip),
            ALL_NODES_MAC,
            "ff02::1",
            0x20,
        ),
    ] {
        let mut body = vec![136, 0, 0, 0, flags, 0, 0, 0];
        body.extend(v6(vip));
        body.extend([2, 1]);
        body.extend(OURS);
        let answer = Message {
            source: vip,
            destination,
            hops: 255,
            body,
        };
        let expected = Outcome {
            verdict: REDIRECT,
            bytes: answer.frame(to, OURS),
        };
        assert_eq!(
            run(&lab, &asked.frame(GROUP_MAC, THEIRS)),
            expected,
            "{what}"
        );
    }
    let routed = Message {
        hops: 254,
        ..solicitation(them, GROUP, vip)
    };
    for (what, message) in [
        (
            "announced by another",
            solicitation(them, GROUP, "fd00:ff::8"),
        ),
        ("nobody's", solicitation(them, GROUP, "fd00:ff::9")),
        ("from another link", routed),
    ] {
        let frame = message.frame(GROUP_MAC, THEIRS);
        assert_eq!(run(&lab, &frame), untouched(&frame), "{what}");
    }
    let mut broken = solicitation(them, GROUP, vip).frame(GROUP_MAC, THEIRS);
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(run(&lab, &broken), untouched(&broken), "a wrong checksum");
}

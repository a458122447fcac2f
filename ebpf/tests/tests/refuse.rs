//! What a client is told where nobody is, byte by byte, and when it is told
//! nothing. Every checksum is summed up again here.

use std::net::SocketAddr;

use vetch_ebpf_common::{Reason, addresses};
use vetch_ebpf_tests::{
    Body, DROP, Fragment, Frame, Lab, POD_1, REDIRECT, UPLINK, mac, peer_mac, syn,
};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const UDP: u8 = 17;

const ETHERNET: usize = 14;

enum Answer {
    /// Sequence number, acknowledgement, flags.
    Reset(u32, u32, u8),
    /// How many bytes of the packet are quoted; None for all.
    Unreachable(Option<usize>),
    Silence,
}

use Answer::{Reset, Silence, Unreachable};

fn cases(client: &str, port: &str) -> Vec<(&'static str, Frame, Answer)> {
    let v4 = client.parse::<SocketAddr>().unwrap().is_ipv4();
    let new = |body| Frame::new(client, port, body);
    let tcp = |flags, payload| new(Body::Tcp { flags, payload });
    let udp = |payload| new(Body::Udp { payload });
    // What an error holds of its packet, and of that what is payload of UDP.
    let most = if v4 { 576 - 28 } else { 1280 - 48 };
    let fits = most - if v4 { 28 } else { 48 };
    let options = |frame: Frame| match v4 {
        true => Frame {
            options: vec![1; 40],
            ..frame
        },
        false => Frame {
            extensions: vec![(0, 8), (60, 264)],
            ..frame
        },
    };
    let fragment = |offset, more| {
        Some(Fragment {
            id: 7,
            offset,
            more,
        })
    };
    vec![
        ("a connect", tcp(SYN, 0), Reset(0, 2, RST | ACK)),
        ("a connect with data", tcp(SYN, 5), Reset(0, 7, RST | ACK)),
        (
            "neither SYN nor ACK",
            tcp(PSH, 1000),
            Reset(0, 1001, RST | ACK),
        ),
        (
            "data of a connection",
            tcp(ACK | PSH, 1400),
            Reset(2, 0, RST),
        ),
        ("a last segment", tcp(FIN | ACK, 0), Reset(2, 0, RST)),
        (
            "an answer nobody asked for",
            tcp(SYN | ACK, 0),
            Reset(2, 0, RST),
        ),
        (
            "a connect with options",
            options(tcp(SYN, 3)),
            Reset(0, 5, RST | ACK),
        ),
        ("a reset", tcp(RST, 0), Silence),
        ("a reset with ACK", tcp(RST | ACK, 0), Silence),
        ("an empty datagram", udp(0), Unreachable(None)),
        ("a datagram of odd length", udp(33), Unreachable(None)),
        ("one that just fits", udp(fits), Unreachable(None)),
        ("one that does not", udp(fits + 1), Unreachable(Some(most))),
        ("a long one", udp(1400), Unreachable(Some(most))),
        (
            "a datagram with options",
            options(udp(10)),
            Unreachable(None),
        ),
        (
            "a long one with options",
            options(udp(1200)),
            Unreachable(Some(most)),
        ),
        (
            "no checksum",
            new(Body::UdpUnchecked { payload: 9 }),
            Unreachable(None),
        ),
        ("sctp", new(Body::Sctp), Unreachable(None)),
        (
            "a first fragment",
            Frame {
                fragment: fragment(0, true),
                ..udp(24)
            },
            Unreachable(None),
        ),
        (
            "a later one of it",
            Frame {
                fragment: fragment(32, false),
                ..new(Body::Raw {
                    protocol: UDP,
                    payload: 20,
                })
            },
            Silence,
        ),
    ]
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    for address in ["10.1.0.1", "fd00::1"] {
        lab.pod(address, POD_1, 0);
    }
    for address in ["10.96.0.1", "fd96::1"] {
        lab.address(address, addresses::SERVICE);
    }
    lab
}

#[test]
fn a_closed_port_answers() {
    let lab = lab();
    let (mut packets, mut later) = (0, 0);
    for (program, ifindex, clients) in [
        ("from_pod", POD_1, ["10.1.0.1:40000", "[fd00::1]:40000"]),
        (
            "from_net",
            UPLINK,
            ["192.0.2.1:40000", "[2001:db8::1]:40000"],
        ),
    ] {
        for (client, port) in clients.into_iter().zip(["10.96.0.1:9", "[fd96::1]:9"]) {
            for (what, frame, expected) in cases(client, port) {
                let frame = frame.macs(mac(ifindex), peer_mac(ifindex));
                check(&lab, program, ifindex, what, &frame, &expected);
                packets += 1;
                later += u64::from(frame.fragment.is_some_and(|fragment| fragment.offset > 0));
            }
        }
    }
    // What was refused has no flow that a later fragment could follow.
    assert_eq!(lab.reason(Reason::Fragment), later);
    assert_eq!(lab.reason(Reason::UnknownPort), packets - later);
}

/// Ethernet's shortest frame is longer than many packets.
#[test]
fn what_is_behind_the_packet_is_not_quoted() {
    let lab = lab();
    let frame = Frame::udp("192.0.2.1:40000", "10.96.0.1:9").macs(mac(UPLINK), peer_mac(UPLINK));
    let (bytes, mut padded) = (frame.bytes(), frame.bytes());
    padded.resize(bytes.len() + 7, 0xee);
    let outcome = lab.run_bytes("from_net", UPLINK, &padded);
    assert_eq!(outcome.verdict, REDIRECT);
    unreachable(&bytes, &outcome.bytes, bytes.len() - ETHERNET, "padded");
}

#[test]
fn who_is_not_one_host_is_told_nothing() {
    let lab = lab();
    for (client, port) in [
        ("0.0.0.0:40000", "10.96.0.1:9"),
        ("127.0.0.1:40000", "10.96.0.1:9"),
        ("224.0.0.1:40000", "10.96.0.1:9"),
        ("255.255.255.255:40000", "10.96.0.1:9"),
        ("[::]:40000", "[fd96::1]:9"),
        ("[::1]:40000", "[fd96::1]:9"),
        ("[ff02::1]:40000", "[fd96::1]:9"),
    ] {
        for frame in [Frame::udp(client, port), syn(client, port)] {
            let frame = frame.macs(mac(UPLINK), peer_mac(UPLINK));
            check(&lab, "from_net", UPLINK, client, &frame, &Silence);
        }
    }
    // One that says it is longer than it is.
    let frame = Frame::udp("192.0.2.1:40000", "10.96.0.1:9").macs(mac(UPLINK), peer_mac(UPLINK));
    let mut bytes = frame.bytes();
    bytes.pop();
    let outcome = lab.run_bytes("from_net", UPLINK, &bytes);
    assert_eq!((outcome.verdict, outcome.bytes), (DROP, bytes));
}

fn check(lab: &Lab, program: &str, ifindex: u32, what: &str, frame: &Frame, expected: &Answer) {
    let what = format!("{program}: {what} from {}", frame.src);
    let outcome = lab.run(program, ifindex, frame);
    let (sent, got) = (frame.bytes(), &outcome.bytes);
    if let Silence = expected {
        assert_eq!((outcome.verdict, got), (DROP, &sent), "{what}");
        return;
    }
    assert_eq!(outcome.verdict, REDIRECT, "{what}");
    match *expected {
        Silence => {}
        Reset(sequence, acknowledgement, flags) => {
            let segment = transport(&sent, got, 6, &what);
            assert_eq!(segment.len(), 20, "{what}");
            let ports = [frame.dst.port(), frame.src.port()].map(u16::to_be_bytes);
            assert_eq!(segment[..4], ports.concat(), "{what}");
            assert_eq!(segment[4..8], sequence.to_be_bytes(), "{what}");
            assert_eq!(segment[8..12], acknowledgement.to_be_bytes(), "{what}");
            assert_eq!(segment[12..16], [0x50, flags, 0, 0], "{what}");
        }
        Unreachable(quoted) => {
            let quoted = quoted.unwrap_or(sent.len() - ETHERNET);
            unreachable(&sent, got, quoted, &what);
        }
    }
}

fn unreachable(sent: &[u8], got: &[u8], quoted: usize, what: &str) {
    let v4 = sent[ETHERNET] >> 4 == 4;
    let (protocol, kind) = if v4 { (1, [3, 3]) } else { (58, [1, 4]) };
    let message = transport(sent, got, protocol, what);
    assert_eq!(message[..2], kind, "{what}");
    assert_eq!(message[4..8], [0; 4], "{what}");
    assert_eq!(message[8..], sent[ETHERNET..][..quoted], "{what}");
}

/// What is behind the answer's headers. Those lead back, and all sums are right.
fn transport<'a>(sent: &[u8], got: &'a [u8], protocol: u8, what: &str) -> &'a [u8] {
    assert_eq!(got[..6], sent[6..12], "{what}");
    assert_eq!(got[6..12], sent[..6], "{what}");
    assert_eq!(got[12..14], sent[12..14], "{what}");
    let (sent, got) = (&sent[ETHERNET..], &got[ETHERNET..]);
    let (addresses, length, number, header) = if sent[0] >> 4 == 4 {
        assert_eq!(got[0], 0x45, "{what}");
        assert_eq!(sum(&[&got[..20]]), 0xffff, "{what}: of the IP header");
        let length = usize::from(u16::from_be_bytes([got[2], got[3]]));
        assert_eq!(got[6..8], [0x40, 0], "{what}");
        (12..20, length - 20, got[9], 20)
    } else {
        assert_eq!(got[..4], [0x60, 0, 0, 0], "{what}");
        let length = usize::from(u16::from_be_bytes([got[4], got[5]]));
        (8..40, length, got[6], 40)
    };
    let half = addresses.len() / 2;
    let (source, destination) = sent[addresses.clone()].split_at(half);
    assert_eq!(
        got[addresses.clone()],
        [destination, source].concat(),
        "{what}"
    );
    assert_eq!((number, got.len() - header), (protocol, length), "{what}");
    let behind = &got[header..];
    let pseudo = [&[0, 0, 0, protocol], &(length as u32).to_be_bytes()[..]].concat();
    let parts: [&[u8]; 3] = match protocol {
        1 => [&[], &[], behind],
        _ => [&got[addresses], &pseudo, behind],
    };
    assert_eq!(sum(&parts), 0xffff, "{what}: of what is behind it");
    behind
}

/// RFC 1071; 0xffff over what has its checksum in it.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

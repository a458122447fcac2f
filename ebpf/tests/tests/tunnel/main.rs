//! Direct server return: packets of clients outside on their way in a tunnel, at
//! the node that was dialled and at the node of the pod that answers. And the
//! other tunnel, to nodes behind a router.

mod dialled;
mod pod;
mod vxlan;

use vetch_ebpf_common::{
    Flow, Frontend, PeerPods, Phase,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, State, addresses,
};
use vetch_ebpf_tests::{
    At, Body, Fragment, Frame, Lab, NODE_V4, NODE_V6, Options, Outcome, PASS, POD_1, POD_2, Quote,
    REDIRECT, To, UPLINK, XDP_PASS, ip, mac, opening, peer_mac, syn, tuple,
};

const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const FIN: u8 = State::FIN;
const NET: At = At("from_net", UPLINK);
const POD: At = At("from_pod", POD_2);

const CLIENT: &str = "192.0.2.1:40000";
const CLIENT6: &str = "[2001:db8::1]:40000";
/// On the node with the programs, and on the other.
const HERE: &str = "10.1.0.2:8080";
const HERE6: &str = "[fd00::2]:8080";
const FAR: &str = "10.2.0.7:8080";
const FAR6: &str = "[fd01::7]:8080";
/// At the other node.
const PEER: &str = "192.168.0.11";
const PEER6: &str = "fd00:ff::11";
const VIP: &str = "198.51.100.1:80";
const VIP6: &str = "[2001:db8:5::1]:80";
/// The families: client, dialled, backend elsewhere, its port, node.
const BOTH: [(u32, &str, &str, &str, &str); 2] = [
    (1, CLIENT, VIP, FAR, NODE_V4),
    (2, CLIENT6, VIP6, FAR6, NODE_V6),
];

fn lab_with(options: Options) -> Lab {
    let mut lab = Lab::with(options);
    lab.pod("10.1.0.1", POD_1, 0);
    lab.pod("10.1.0.2", POD_2, 0);
    lab.pod("fd00::2", POD_2, 0);
    lab.own_addresses();
    for peer in [PEER, PEER6] {
        lab.address(peer, addresses::PEER);
    }
    lab.peer_pods("10.2.0.0", 96 + 24, PeerPods::default());
    lab.peer_pods("fd01::", 64, PeerPods::default());
    for (number, _, vip, far, _) in BOTH {
        for protocol in [Tcp, Udp] {
            service(&mut lab, number, vip, protocol, far);
        }
    }
    lab
}

/// A node that has its clients answered directly, by its only uplink.
fn lab() -> Lab {
    lab_with(Options {
        link: UPLINK,
        direct: true,
        ..Options::default()
    })
}

fn service(lab: &mut Lab, number: u32, vip: &str, protocol: Protocol, backend: &str) {
    lab.simple_service(number, vip, protocol, backend);
    lab.frontend(vip, protocol, number, Frontend::EXTERNAL);
}

fn segment(src: &str, dst: &str, flags: u8, payload: usize) -> Frame {
    Frame::new(src, dst, Body::Tcp { flags, payload })
}

fn host(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]:0"),
        false => format!("{address}:0"),
    }
}

/// What a node sends on for a pod.
fn wrapped(node: &str, pod: &str, inner: &Frame) -> Frame {
    let pod: std::net::SocketAddr = pod.parse().unwrap();
    let body = Body::Tunnel {
        port: pod.port(),
        inner: Box::new(inner.clone()),
    };
    Frame::new(&host(node), &host(&pod.ip().to_string()), body)
}

fn older(frame: &Frame) -> Frame {
    Frame {
        ttl: frame.ttl - 1,
        ..frame.clone()
    }
}

fn arrived(frame: &Frame) -> Frame {
    frame.clone().macs(mac(UPLINK), peer_mac(UPLINK))
}

/// That the packet goes on in a tunnel, one hop older, no other byte changed.
#[track_caller]
fn goes_on(lab: &Lab, what: &str, frame: &Frame, node: &str, pod: &str, verdict: i32) {
    let expected = Outcome {
        verdict,
        bytes: arrived(&wrapped(node, pod, &older(frame))).bytes(),
    };
    assert_eq!(lab.run("from_net", UPLINK, frame), expected, "{what}");
}

fn counted(lab: &Lab) -> Vec<(Reason, u64)> {
    let all = Reason::ALL
        .iter()
        .map(|reason| (*reason, lab.reason(*reason)));
    all.filter(|(_, count)| *count != 0).collect()
}

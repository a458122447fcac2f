//! What pods send to services, and what their backends answer.

use vetch_ebpf_common::{
    Frontend, Pod,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, State, Terms, addresses,
};
use vetch_ebpf_tests::{
    Body, DROP, Frame, Lab, Outcome, PASS, POD_1, POD_2, REDIRECT, Service, mac, peer_mac, tuple,
};

const SYN: u8 = State::SYN;
const ACK: u8 = State::ACK;
const FIN: u8 = State::FIN;
const RST: u8 = State::RST;

/// Where a packet ends up.
#[derive(Clone, Copy, Debug)]
enum To {
    Pod(u32),
    Stack,
    Nowhere,
}

/// Sends from one of the pods and compares what becomes of the packet.
fn sends(lab: &Lab, from: u32, description: &str, frame: Frame, to: To, rewritten: Frame) {
    let frame = frame.macs(mac(from), peer_mac(from));
    let expected = match to {
        To::Pod(ifindex) => Outcome {
            verdict: REDIRECT,
            bytes: rewritten.macs(peer_mac(ifindex), mac(ifindex)).bytes(),
        },
        To::Stack => Outcome {
            verdict: PASS,
            bytes: rewritten.macs(frame.mac_to, frame.mac_from).bytes(),
        },
        To::Nowhere => Outcome {
            verdict: DROP,
            bytes: frame.bytes(),
        },
    };
    let outcome = lab.run("from_pod", from, &frame);
    assert_eq!(outcome, expected, "{description}");
}

const WEB: u32 = 1;

fn lab() -> Lab {
    let mut lab = Lab::new();
    for (address, ifindex) in [
        ("10.1.0.1", POD_1),
        ("fd00::1", POD_1),
        ("10.1.0.2", POD_2),
        ("fd00::2", POD_2),
    ] {
        lab.pod(address, ifindex, 0);
    }
    lab
}

/// One backend, so that chance has none.
fn one_backend(lab: &mut Lab, number: u32, at: &str, protocol: Protocol, backend: &str) {
    lab.service(&Service {
        number,
        generation: 1,
        cluster: &[backend],
        ..Service::default()
    });
    lab.frontend(at, protocol, number, 0);
}

#[test]
fn there_and_back() {
    let mut lab = lab();
    let table = [
        ("10.1.0.1:40000", "10.96.0.1:80", "10.1.0.2:8080"),
        ("[fd00::1]:40000", "[fd96::1]:80", "[fd00::2]:8080"),
    ];
    for (client, service, backend) in table {
        for protocol in [Tcp, Udp] {
            one_backend(&mut lab, WEB, service, protocol, backend);
            let frame = |src, dst| match protocol {
                Udp => Frame::udp(src, dst),
                _ => Frame::tcp(src, dst, SYN),
            };
            for attempt in ["first", "next"] {
                sends(
                    &lab,
                    POD_1,
                    &format!("{attempt} {protocol:?} of {client}"),
                    frame(client, service),
                    To::Pod(POD_2),
                    frame(client, backend),
                );
            }
            sends(
                &lab,
                POD_2,
                &format!("{protocol:?} answer of {backend}"),
                frame(backend, client),
                To::Pod(POD_1),
                frame(service, client),
            );
        }
    }
    assert_eq!(lab.flows().len(), 2 * 4);
}

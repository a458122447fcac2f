//! Errors about packets that were rewritten: they must be about those that
//! their receivers sent.

use vetch_ebpf_common::{
    Frontend,
    Protocol::{Sctp, Tcp, Udp},
    addresses,
};
use vetch_ebpf_tests::{
    At, Body, Frame, Lab, NODE_V4, POD_1, POD_2, Quote, To, UPLINK, ip, opening, tuple,
};

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const NET: At = At("from_net", UPLINK);

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
    lab.address(NODE_V4, addresses::NODE);
    lab
}

/// That a packet is too big for the next link; `bytes` of it are quoted.
fn too_big(from: &str, to: &str, quoted: &Frame, bytes: usize) -> Frame {
    let (kind, code) = if quoted.src.is_ipv4() { (3, 4) } else { (2, 0) };
    let body = Body::Error {
        kind,
        code,
        rest: 1280,
        quoted: Box::new(Quote {
            frame: quoted.clone(),
            bytes,
        }),
    };
    Frame::new(from, to, body)
}

#[test]
fn about_a_question() {
    let mut lab = lab();
    for (number, client, vip, backend, router, host) in [
        (
            1,
            "10.1.0.1:40000",
            "10.96.0.1:80",
            "10.1.0.2:8080",
            "203.0.113.1:0",
            ["10.1.0.1:0", "10.1.0.2:0", "10.96.0.1:0"],
        ),
        (
            2,
            "[fd00::1]:40000",
            "[fd96::1]:80",
            "[fd00::2]:8080",
            "[2001:db8:9::1]:0",
            ["[fd00::1]:0", "[fd00::2]:0", "[fd96::1]:0"],
        ),
    ] {
        let [client_host, backend_host, vip_host] = host;
        for protocol in [Tcp, Udp] {
            lab.simple_service(number, vip, protocol, backend);
            lab.run("from_pod", POD_1, &opening(protocol, client, vip));
            let sent = opening(protocol, client, vip);
            let seen = opening(protocol, client, backend);
            // 8 bytes end before TCP's checksum and have UDP's.
            for bytes in [8, 16, 18, 200] {
                let error = too_big(backend_host, client_host, &seen, bytes);
                let rewritten = too_big(vip_host, client_host, &sent, bytes);
                let name = format!("{protocol:?}, {bytes} bytes quoted");
                lab.expect(
                    TWO,
                    &format!("by the backend: {name}"),
                    &error,
                    To::Pod(POD_1),
                    &rewritten,
                );
                let error = too_big(router, client_host, &seen, bytes);
                let rewritten = too_big(router, client_host, &sent, bytes);
                lab.expect(
                    NET,
                    &format!("by a router: {name}"),
                    &error,
                    To::Pod(POD_1),
                    &rewritten,
                );
                lab.expect(
                    At("to_pod", POD_1),
                    &format!("by the node: {name}"),
                    &error,
                    To::Stack,
                    &rewritten,
                );
            }
        }
    }
}

#[test]
fn about_an_answer() {
    let mut lab = lab();
    let (client, vip, backend) = ("10.1.0.1:40000", "10.96.0.1:80", "10.1.0.2:8080");
    for protocol in [Tcp, Udp] {
        lab.simple_service(1, vip, protocol, backend);
        lab.run("from_pod", POD_1, &opening(protocol, client, vip));
        let seen = opening(protocol, vip, client);
        let sent = opening(protocol, backend, client);
        let error = too_big("10.1.0.1:0", "10.96.0.1:0", &seen, 64);
        let rewritten = too_big("10.1.0.1:0", "10.1.0.2:0", &sent, 64);
        lab.expect(ONE, "by the client", &error, To::Pod(POD_2), &rewritten);
    }
}

/// A client of a NodePort and a backend that sees the node.
#[test]
fn about_a_packet_of_the_nodes_address() {
    let mut lab = lab();
    let (client, at, backend) = ("192.0.2.1:40000", "192.168.0.10:30080", "10.2.0.7:8080");
    lab.simple_service(1, "0.0.0.0:30080", Tcp, backend);
    lab.frontend("0.0.0.0:30080", Tcp, 1, Frontend::EXTERNAL);
    let sent = opening(Tcp, client, at);
    lab.run("from_net", UPLINK, &sent);
    let to = lab.flow(&tuple(client, at, Tcp)).to;
    assert_eq!(to.src, ip(NODE_V4));
    let node = format!("{NODE_V4}:{}", u16::from_be_bytes(to.sport));
    let node_host = format!("{NODE_V4}:0");

    let seen = opening(Tcp, &node, backend);
    let error = too_big("10.2.0.1:0", &node_host, &seen, 64);
    let rewritten = too_big("10.2.0.1:0", "192.0.2.1:0", &sent, 64);
    lab.expect(
        NET,
        "on the way to the backend",
        &error,
        To::Link,
        &rewritten,
    );
    let error = too_big("10.2.0.7:0", &node_host, &seen, 64);
    let rewritten = too_big(&node_host, "192.0.2.1:0", &sent, 64);
    lab.expect(NET, "by the backend", &error, To::Link, &rewritten);

    let answer = opening(Tcp, backend, &node);
    lab.run("from_net", UPLINK, &answer);
    let seen = opening(Tcp, at, client);
    let error = too_big("192.0.2.1:0", &node_host, &seen, 64);
    let rewritten = too_big(&node_host, "10.2.0.7:0", &answer, 64);
    lab.expect(NET, "by the client", &error, To::Stack, &rewritten);
    let error = too_big("203.0.113.9:0", &node_host, &seen, 64);
    let rewritten = too_big("203.0.113.9:0", "10.2.0.7:0", &answer, 64);
    lab.expect(
        NET,
        "on the way to the client",
        &error,
        To::Stack,
        &rewritten,
    );
}

#[test]
fn with_headers_of_all_kinds() {
    let mut lab = lab();
    let (client, vip, backend) = ("10.1.0.1:40000", "10.96.0.1:80", "10.1.0.2:8080");
    lab.simple_service(1, vip, Tcp, backend);
    lab.simple_service(1, vip, Udp, backend);
    lab.simple_service(2, "[fd96::1]:80", Tcp, "[fd00::2]:80");
    lab.simple_service(3, vip, Sctp, "10.1.0.2:80");
    for (description, protocol, quote) in [
        (
            "options",
            Tcp,
            Frame {
                options: vec![1; 8],
                ..opening(Tcp, client, vip)
            },
        ),
        (
            "no UDP checksum",
            Udp,
            Frame::new(client, vip, Body::UdpUnchecked { payload: 9 }),
        ),
        (
            "extension headers",
            Tcp,
            Frame {
                extensions: vec![(60, 16)],
                ..opening(Tcp, "[fd00::1]:40000", "[fd96::1]:80")
            },
        ),
        ("SCTP", Sctp, opening(Sctp, client, vip)),
    ] {
        lab.run("from_pod", POD_1, &quote);
        let (router, client_host, backend) = match (quote.src.is_ipv4(), protocol) {
            (true, Sctp) => ("203.0.113.1:0", "10.1.0.1:0", "10.1.0.2:80"),
            (true, _) => ("203.0.113.1:0", "10.1.0.1:0", backend),
            (false, _) => ("[2001:db8::9]:0", "[fd00::1]:0", "[fd00::2]:80"),
        };
        let seen = quote.clone().dst(backend);
        let error = Frame {
            options: quote.options.clone(),
            extensions: quote.extensions.clone(),
            ..too_big(router, client_host, &seen, 128)
        };
        let rewritten = Frame {
            options: quote.options.clone(),
            extensions: quote.extensions.clone(),
            ..too_big(router, client_host, &quote, 128)
        };
        lab.expect(NET, description, &error, To::Pod(POD_1), &rewritten);
    }
}

#[test]
fn about_other_packets() {
    let lab = lab();
    let seen = opening(Tcp, "10.1.0.1:40000", "10.1.0.2:8080");
    let error = too_big("10.1.0.2:0", "10.1.0.1:0", &seen, 64);
    lab.expect(TWO, "between pods", &error, To::Pod(POD_1), &error);
    let error = too_big("203.0.113.1:0", "192.168.0.10:0", &seen, 64);
    lab.expect_untouched(NET, "for the node", &error);
    // Quoted too short to know.
    let error = too_big("10.1.0.2:0", "10.1.0.1:0", &seen, 3);
    lab.expect(TWO, "without ports", &error, To::Pod(POD_1), &error);
}

/// An error says nothing of whether the two ends go on.
#[test]
fn no_flow_lives_by_errors() {
    let mut lab = lab();
    let (client, vip, backend) = ("10.1.0.1:40000", "10.96.0.1:80", "10.1.0.2:8080");
    lab.simple_service(1, vip, Udp, backend);
    lab.run("from_pod", POD_1, &opening(Udp, client, vip));
    lab.flows_age(5);
    let before = lab.flows();
    let seen = opening(Udp, client, backend);
    let error = too_big("10.1.0.2:0", "10.1.0.1:0", &seen, 64);
    lab.run("from_pod", POD_2, &error);
    assert_eq!(lab.flows(), before);
}

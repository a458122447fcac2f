//! Backends on nodes behind a router, which are reached in VXLAN.

use super::*;

/// The tunnel's device: nothing is sent here, so there need not be one.
const DEVICE: u32 = 41;
const PORT: u16 = 61000;

/// A node that has clients answered directly where it may.
fn lab() -> Lab {
    let mut lab = lab_with(Options {
        link: UPLINK,
        direct: true,
        ports: (PORT, PORT),
        ..Options::default()
    });
    lab.peer_pods("10.2.0.0", 96 + 24, PeerPods::in_tunnel(DEVICE));
    lab.peer_pods("fd01::", 64, PeerPods::in_tunnel(DEVICE));
    lab.uplink(UPLINK, 1500);
    lab.uplink(DEVICE, 1450);
    lab
}

/// What the backend's node gets: the node's address for the client's.
fn from_node(frame: &Frame, node: &str, far: &str) -> Frame {
    let from = std::net::SocketAddr::new(node.parse().unwrap(), PORT);
    frame.clone().src(&from.to_string()).dst(far)
}

#[test]
fn a_backend_in_the_tunnel_sees_the_node_and_no_other_tunnel() {
    let lab = lab();
    for (_, client, vip, far, node) in BOTH {
        for protocol in [Tcp, Udp] {
            let question = opening(protocol, client, vip);
            let expected = from_node(&question, node, far);
            for time in ["first", "next"] {
                lab.expect(NET, time, &question, To::Link, &expected);
            }
            // At the driver nobody knows where that goes.
            let outcome = lab.run("from_wire", UPLINK, &question);
            let untouched = arrived(&question).bytes();
            assert_eq!((outcome.verdict, outcome.bytes), (XDP_PASS, untouched));
        }
    }
    assert_eq!(counted(&lab), []);
}

#[test]
fn what_does_not_fit_the_tunnel_is_told_what_would() {
    let lab = lab();
    for (_, client, vip, far, node) in BOTH {
        let v4 = client == CLIENT;
        let (header, error): (usize, [u8; 2]) = if v4 { (20, [3, 4]) } else { (40, [2, 0]) };
        let told = lab.reason(Reason::TooLong);
        let with = |len: usize| segment(client, vip, ACK, len - header - 20);
        lab.expect(
            NET,
            "just so",
            &with(1450),
            To::Link,
            &from_node(&with(1450), node, far),
        );
        let outcome = lab.run("from_net", UPLINK, &with(1451));
        assert_eq!(outcome.verdict, REDIRECT);
        assert_eq!(
            outcome.bytes[..12],
            [peer_mac(UPLINK), mac(UPLINK)].concat()
        );
        let icmp = &outcome.bytes[14 + header..];
        assert_eq!(icmp[..2], error);
        assert_eq!(icmp[4..8], 1450_u32.to_be_bytes());
        assert_eq!(lab.reason(Reason::TooLong) - told, 1);
        // Quoted as the client knows it.
        assert!(with(1451).bytes()[14..].starts_with(&icmp[8..]));
    }
    // One that may be cut on the way is.
    let fragment = Fragment {
        id: 7,
        offset: 0,
        more: true,
    };
    let long = Frame {
        fragment: Some(fragment),
        ..Frame::new(CLIENT, VIP, Body::Udp { payload: 1472 })
    };
    lab.expect(
        NET,
        "without DF",
        &long,
        To::Link,
        &from_node(&long, NODE_V4, FAR),
    );
}

#[test]
fn what_came_in_no_tunnel_of_a_node_is_dropped_at_its_device() {
    let lab = lab();
    let device = At("from_tunnel", UPLINK);
    lab.expect_dropped(device, "to a pod", &syn("10.2.0.7:40000", HERE));
    lab.expect_dropped(device, "to a service", &syn(CLIENT6, VIP6));
    assert_eq!(counted(&lab), [(Reason::Tunnel, 2)]);
    assert_eq!(lab.traffic(2).connections, 0);
}

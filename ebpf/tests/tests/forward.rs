//! Packets that nobody translates: straight into a pod, or left to the stack.

use vetch_ebpf_common::{PeerPods, Pod, Reason};
use vetch_ebpf_tests::{
    At, Body, Fragment, Frame, Lab, Outcome, PASS, POD_1, POD_2, REDIRECT, To, UPLINK, mac,
    peer_mac, syn,
};

/// The device of the tunnel to other nodes: nothing is sent here, so there need not be one.
const TUNNEL: u32 = 41;

struct Case {
    description: &'static str,
    program: &'static str,
    ifindex: u32,
    frame: Frame,
    /// The device's pod that gets it; None: the stack.
    into: Option<u32>,
}

fn from(program: &'static str, ifindex: u32) -> impl Fn(&'static str, Frame, Option<u32>) -> Case {
    move |description, frame, into| Case {
        description,
        program,
        ifindex,
        frame: frame.macs(mac(ifindex), peer_mac(ifindex)),
        into,
    }
}

fn cases() -> Vec<Case> {
    let pod = from("from_pod", POD_1);
    let net = from("from_net", UPLINK);
    let (one, two, by_stack) = ("10.1.0.1:40000", "10.1.0.2:80", "10.1.0.3:80");
    let far = "10.2.0.1:40000";
    let (one6, two6, far6) = ("[fd00::1]:40000", "[fd00::2]:80", "[fd01::1]:40000");
    vec![
        pod("tcp", syn(one, two), Some(POD_2)),
        pod("udp", Frame::udp(one, two), Some(POD_2)),
        pod("sctp", Frame::new(one, two, Body::Sctp), Some(POD_2)),
        pod("ping", Frame::new(one, two, Body::Echo), Some(POD_2)),
        pod(
            "a protocol without ports",
            Frame::new(one, two, Body::Other { protocol: 47 }),
            Some(POD_2),
        ),
        pod("tcp over IPv6", syn(one6, two6), Some(POD_2)),
        pod(
            "ping over IPv6",
            Frame::new(one6, two6, Body::Echo),
            Some(POD_2),
        ),
        pod(
            "IPv4 options",
            Frame {
                options: vec![1; 40],
                ..syn(one, two)
            },
            Some(POD_2),
        ),
        pod(
            "IPv6 extension headers",
            Frame {
                extensions: vec![(0, 8), (60, 264)],
                ..syn(one6, two6)
            },
            Some(POD_2),
        ),
        pod(
            "a later fragment",
            Frame {
                fragment: Some(Fragment {
                    id: 7,
                    offset: 1480,
                    more: false,
                }),
                ..Frame::new(
                    one,
                    two,
                    Body::Raw {
                        protocol: 17,
                        payload: 30,
                    },
                )
            },
            Some(POD_2),
        ),
        pod("to itself", syn(one, "10.1.0.1:80"), Some(POD_1)),
        pod("elsewhere", syn(one, far), None),
        pod("elsewhere over IPv6", syn(one6, far6), None),
        pod("with another pod's address", syn("10.1.0.2:80", two), None),
        pod("with nobody's address", syn("10.1.0.9:80", two), None),
        pod("to a pod by the stack", syn(one, by_stack), None),
        from("from_pod", POD_2)("from a pod by the stack", syn("10.1.0.3:80", one), None),
        pod(
            "with a VLAN tag",
            Frame {
                vlans: vec![5],
                ..syn(one, two)
            },
            None,
        ),
        net("tcp", syn(far, two), Some(POD_2)),
        net("tcp over IPv6", syn(far6, two6), Some(POD_2)),
        net("to a pod by the stack", syn(far, by_stack), None),
        net("with a pod's address", syn(one, two), None),
        net("elsewhere", syn(far, "10.3.0.1:80"), None),
        Case {
            frame: syn(far, two).macs([2, 9, 9, 9, 9, 9], peer_mac(UPLINK)),
            ..net("for another link address", syn(far, two), None)
        },
    ]
}

#[test]
fn packets_of_pods_skip_the_stack() {
    let mut lab = Lab::new();
    for (address, ifindex, flags) in [
        ("10.1.0.1", POD_1, 0),
        ("fd00::1", POD_1, 0),
        ("10.1.0.2", POD_2, 0),
        ("fd00::2", POD_2, 0),
        ("10.1.0.3", POD_2, Pod::BY_STACK),
    ] {
        lab.pod(address, ifindex, flags);
    }
    for case in cases() {
        let expected = match case.into {
            Some(ifindex) => Outcome {
                verdict: REDIRECT,
                bytes: case
                    .frame
                    .clone()
                    .macs(peer_mac(ifindex), mac(ifindex))
                    .bytes(),
            },
            None => Outcome {
                verdict: PASS,
                bytes: case.frame.bytes(),
            },
        };
        let outcome = lab.run(case.program, case.ifindex, &case.frame);
        assert_eq!(outcome, expected, "{}: {}", case.program, case.description);
    }
    for reason in Reason::ALL {
        assert_eq!(lab.reason(*reason), 0, "{reason:?}");
    }
}

/// Behind an uplink or in the tunnel, as the daemon has read the routes.
#[test]
fn packets_for_other_nodes_pods_skip_the_stack() {
    let mut lab = Lab::new();
    for (address, ifindex, flags) in [
        ("10.1.0.1", POD_1, 0),
        ("fd00::1", POD_1, 0),
        ("10.1.0.3", POD_2, Pod::BY_STACK),
    ] {
        lab.pod(address, ifindex, flags);
    }
    lab.peer_pods("10.2.0.0", 96 + 24, PeerPods::direct(UPLINK));
    lab.peer_pods("fd01::", 64, PeerPods::in_tunnel(TUNNEL));
    lab.peer_pods("10.3.0.0", 96 + 24, PeerPods::default());
    lab.uplink(UPLINK, 1500);
    lab.uplink(TUNNEL, 1430);
    let pod = At("from_pod", POD_1);
    let (one, far) = ("10.1.0.1:40000", "10.2.0.1:80");
    let (one6, far6) = ("[fd00::1]:40000", "[fd01::1]:80");
    let long = |src, dst, payload| Frame::new(src, dst, Body::Udp { payload });
    let table = [
        ("tcp", syn(one, far), To::Link),
        ("ping", Frame::new(one, far, Body::Echo), To::Link),
        ("in the tunnel", syn(one6, far6), To::Link),
        ("just so", long(one, far, 1472), To::Link),
        ("too long", long(one, far, 1473), To::Stack),
        (
            "just so for the tunnel",
            long(one6, far6, 1430 - 48),
            To::Link,
        ),
        ("too long for it", long(one6, far6, 1430 - 47), To::Stack),
        (
            "no hop left",
            Frame {
                ttl: 1,
                ..syn(one, far)
            },
            To::Stack,
        ),
        (
            "options",
            Frame {
                options: vec![1; 4],
                ..syn(one, far)
            },
            To::Stack,
        ),
        ("with another's address", syn("10.1.0.9:80", far), To::Stack),
        (
            "a way that nobody has said",
            syn(one, "10.3.0.1:80"),
            To::Stack,
        ),
        ("nobody's pod", syn(one, "10.4.0.1:80"), To::Stack),
    ];
    for (what, frame, to) in table {
        lab.expect(pod, what, &frame, to, &frame);
    }
    let by_stack = syn("10.1.0.3:40000", far);
    lab.expect_untouched(At("from_pod", POD_2), "asked for", &by_stack);
    for reason in Reason::ALL {
        assert_eq!(lab.reason(*reason), 0, "{reason:?}");
    }
}

/// The verifier gives up at a million instructions, and versions of it differ.
#[test]
fn the_verifier_is_far_from_its_limit() {
    for (program, instructions) in Lab::new().verified() {
        println!("{program}: {instructions} instructions verified");
        assert!(instructions < 100_000, "{program}: {instructions}");
    }
}

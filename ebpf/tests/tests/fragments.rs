//! Datagrams in several packets.

use vetch_ebpf_common::{Protocol::Udp, Reason, addresses};
use vetch_ebpf_tests::{At, Body, Fragment, Frame, Lab, POD_1, POD_2, To};

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);

struct Side {
    client: &'static str,
    vip: &'static str,
    backend: &'static str,
}

const V4: Side = Side {
    client: "10.1.0.1:40000",
    vip: "10.96.0.1:53",
    backend: "10.1.0.2:5353",
};
const V6: Side = Side {
    client: "[fd00::1]:40000",
    vip: "[fd96::1]:53",
    backend: "[fd00::2]:5353",
};

fn lab() -> Lab {
    let mut lab = Lab::new();
    for (number, side, pods) in [
        (1, &V4, ["10.1.0.1", "10.1.0.2"]),
        (2, &V6, ["fd00::1", "fd00::2"]),
    ] {
        lab.pod(pods[0], POD_1, 0);
        lab.pod(pods[1], POD_2, 0);
        lab.simple_service(number, side.vip, Udp, side.backend);
    }
    lab.address("10.96.0.1", addresses::SERVICE);
    lab.address("fd96::1", addresses::SERVICE);
    lab
}

fn first(src: &str, dst: &str, id: u16) -> Frame {
    Frame {
        fragment: Some(Fragment {
            id,
            offset: 0,
            more: true,
        }),
        ..Frame::new(src, dst, Body::Udp { payload: 16 })
    }
}

fn later(src: &str, dst: &str, id: u16, more: bool) -> Frame {
    Frame {
        fragment: Some(Fragment {
            id,
            offset: 24,
            more,
        }),
        ..Frame::new(
            src,
            dst,
            Body::Raw {
                protocol: 17,
                payload: 24,
            },
        )
    }
}

#[test]
fn later_ones_follow_the_first() {
    let lab = lab();
    for Side {
        client,
        vip,
        backend,
    } in [V4, V6]
    {
        let frame = first(client, vip, 7);
        lab.expect(
            ONE,
            "first",
            &frame,
            To::Pod(POD_2),
            &frame.clone().dst(backend),
        );
        for more in [true, false] {
            let frame = later(client, vip, 7, more);
            lab.expect(
                ONE,
                "later",
                &frame,
                To::Pod(POD_2),
                &frame.clone().dst(backend),
            );
        }
        let frame = first(backend, client, 9);
        lab.expect(
            TWO,
            "first answer",
            &frame,
            To::Pod(POD_1),
            &frame.clone().src(vip),
        );
        let frame = later(backend, client, 9, false);
        lab.expect(
            TWO,
            "later answer",
            &frame,
            To::Pod(POD_1),
            &frame.clone().src(vip),
        );
    }
    assert_eq!(lab.reason(Reason::Fragment), 0);
}

#[test]
fn one_that_comes_before_its_first() {
    let mut lab = lab();
    for side in [V4, V6] {
        lab.expect_dropped(ONE, "to a service", &later(side.client, side.vip, 8, true));
        // The pod's stack waits for the first.
        let frame = later(side.client, side.backend, 8, true);
        lab.expect(ONE, "to a pod", &frame, To::Pod(POD_2), &frame);
    }
    assert_eq!(lab.reason(Reason::Fragment), 2);
    let frame = later(V4.client, "192.0.2.1:53", 8, true);
    lab.expect_untouched(ONE, "to somebody else", &frame);
    // As of a host port at one of the node's addresses: others are the node's.
    lab.address("192.0.2.2", addresses::SERVICE | addresses::NODE);
    let frame = later(V4.client, "192.0.2.2:53", 8, true);
    lab.expect_untouched(ONE, "to the node", &frame);
    // Another datagram's ports are not taken.
    lab.run("from_pod", POD_1, &first(V4.client, V4.vip, 7));
    lab.expect_dropped(ONE, "another one's", &later(V4.client, V4.vip, 8, true));
    assert_eq!(lab.reason(Reason::Fragment), 3);
    assert_eq!(lab.flows().len(), 2);
}

/// RFC 6946.
#[test]
fn an_atomic_fragment_is_whole() {
    let lab = lab();
    let frame = Frame {
        fragment: Some(Fragment {
            id: 1,
            offset: 0,
            more: false,
        }),
        ..Frame::udp(V6.client, V6.vip)
    };
    lab.expect(
        ONE,
        "atomic",
        &frame,
        To::Pod(POD_2),
        &frame.clone().dst(V6.backend),
    );
}

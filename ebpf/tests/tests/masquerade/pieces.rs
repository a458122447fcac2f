//! Fragments of what pods send out and get back, and the errors about it.

use vetch_ebpf_common::{
    Protocol::{self, Tcp, Udp},
    Reason, Tuple,
};
use vetch_ebpf_tests::{Body, Fragment, Frame, endpoint, opening, tuple};

use super::{
    FAR, FAR6, INTO_ONE, NET, ONE, POD, POD6, error, expect_as_it_is, expect_leaves, expect_stays,
    host, icmp_tuple, lab, leave, seen,
};

#[test]
fn fragments() {
    let mut lab = lab();
    let piece = |src: &str, dst: &str, body, id, offset| Frame {
        fragment: Some(Fragment {
            id,
            offset,
            more: offset == 0,
        }),
        ..Frame::new(src, dst, body)
    };
    let raw = |protocol| Body::Raw {
        protocol,
        payload: 24,
    };
    for (pod, far, first, protocol) in [
        (POD, FAR, Body::Udp { payload: 16 }, 17),
        (POD6, FAR6, Body::Udp { payload: 16 }, 17),
        ("10.1.0.1:4660", "203.0.113.7:0", Body::Echo, 1),
        ("[fd00::1]:4660", "[2001:db8:7::7]:0", Body::Echo, 58),
    ] {
        let out = piece(pod, far, first.clone(), 7, 0);
        leave(&lab, &out);
        let key = Tuple::new(endpoint(pod), endpoint(far), protocol);
        let as_node = seen(&mut lab, &key);
        expect_leaves(&lab, "first", &out, &out.clone().src(&as_node));
        let out = piece(pod, far, raw(protocol), 7, 24);
        expect_leaves(&lab, "later", &out, &out.clone().src(&as_node));
        let answer = match first {
            Body::Echo => Body::EchoAnswer,
            other => other,
        };
        let back = piece(far, &as_node, answer, 9, 0);
        lab.expect(NET, "first back", &back, INTO_ONE, &back.clone().dst(pod));
        let back = piece(far, &as_node, raw(protocol), 9, 24);
        lab.expect(NET, "later back", &back, INTO_ONE, &back.clone().dst(pod));
        expect_stays(
            &lab,
            "before its first",
            &piece(pod, far, raw(protocol), 8, 24),
        );
    }
    assert_eq!(lab.reason(Reason::Fragment), 4);
    // Of a protocol without ports there is nothing to wait for.
    expect_as_it_is(&lab, "another protocol", &piece(POD, FAR, raw(47), 8, 24));
}

/// By routers on the way, by the host, and by the pod about what it gets.
#[test]
fn errors() {
    let mut lab = lab();
    for (pod, far, router, first, kinds) in [
        (
            POD,
            FAR,
            "198.51.100.1:0",
            opening as fn(Protocol, &str, &str) -> Frame,
            [[3, 4], [11, 0], [3, 3]],
        ),
        (
            POD6,
            FAR6,
            "[2001:db8:1::1]:0",
            opening,
            [[2, 0], [3, 0], [1, 4]],
        ),
    ] {
        for protocol in [Tcp, Udp] {
            let sent = first(protocol, pod, far);
            leave(&lab, &sent);
            let as_node = seen(&mut lab, &tuple(pod, far, protocol));
            let out = sent.clone().src(&as_node);
            for kind in kinds {
                for from in [router, &host(far)] {
                    let told = error(from, &host(&as_node), &out, kind, 1280);
                    let rewritten = error(from, &host(pod), &sent, kind, 1280);
                    lab.expect(NET, "about a question", &told, INTO_ONE, &rewritten);
                }
            }
            let got = first(protocol, far, pod);
            let came = first(protocol, far, &as_node);
            let told = error(&host(pod), &host(far), &got, kinds[2], 0);
            let rewritten = error(&host(&as_node), &host(far), &came, kinds[2], 0);
            lab.expect_untouched(ONE, "about an answer, at the pod", &told);
            expect_leaves(&lab, "about an answer", &told, &rewritten);
        }
    }
    // A traceroute by echoes.
    for (pod, far, router, kind) in [
        ("10.1.0.1:77", "203.0.113.7:0", "198.51.100.1:0", [11, 0]),
        (
            "[fd00::1]:77",
            "[2001:db8:7::7]:0",
            "[2001:db8:1::1]:0",
            [3, 0],
        ),
    ] {
        let sent = Frame::new(pod, far, Body::Echo);
        leave(&lab, &sent);
        let as_node = seen(&mut lab, &icmp_tuple(pod, far));
        let out = sent.clone().src(&as_node);
        let told = error(router, &host(&as_node), &out, kind, 0);
        let rewritten = error(router, &host(pod), &sent, kind, 0);
        lab.expect(NET, "about an echo", &told, INTO_ONE, &rewritten);
    }
}

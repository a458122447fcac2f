//! A packet in, and what is to become of it.

use crate::{DROP, Frame, Lab, Outcome, PASS, REDIRECT, mac, peer_mac};

/// Where a packet ends up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum To {
    /// In the pod behind this device.
    Pod(u32),
    /// Out by another link, one hop older.
    Link,
    Stack,
    Nowhere,
}

/// What pods and the network send, by a program and the device it is at.
#[derive(Clone, Copy, Debug)]
pub struct At(pub &'static str, pub u32);

impl Lab {
    /// Gives the packet to the program and compares every byte of what comes
    /// out with `rewritten`.
    #[track_caller]
    pub fn expect(&self, at: At, description: &str, frame: &Frame, to: To, rewritten: &Frame) {
        let At(program, ifindex) = at;
        let (own, peer) = (mac(ifindex), peer_mac(ifindex));
        let frame = frame.clone().macs(own, peer);
        let rewritten = rewritten.clone().macs(own, peer);
        let (verdict, expected) = match to {
            To::Pod(pod) => (REDIRECT, rewritten.macs(peer_mac(pod), mac(pod))),
            To::Link => (
                REDIRECT,
                Frame {
                    ttl: rewritten.ttl - 1,
                    ..rewritten
                },
            ),
            To::Stack => (PASS, rewritten),
            To::Nowhere => (DROP, frame.clone()),
        };
        let outcome = self.run(program, ifindex, &frame);
        let expected = Outcome {
            verdict,
            bytes: expected.bytes(),
        };
        assert_eq!(outcome, expected, "{program}: {description}");
    }

    /// That it goes on as it came.
    #[track_caller]
    pub fn expect_untouched(&self, at: At, description: &str, frame: &Frame) {
        self.expect(at, description, frame, To::Stack, frame);
    }

    #[track_caller]
    pub fn expect_dropped(&self, at: At, description: &str, frame: &Frame) {
        self.expect(at, description, frame, To::Nowhere, frame);
    }

    /// That its sender is told: something goes back to it. What, is another
    /// test's matter.
    #[track_caller]
    pub fn expect_refused(&self, at: At, description: &str, frame: &Frame) {
        let At(program, ifindex) = at;
        let frame = frame.clone().macs(mac(ifindex), peer_mac(ifindex));
        let outcome = self.run(program, ifindex, &frame);
        assert_eq!(outcome.verdict, REDIRECT, "{program}: {description}");
        assert_eq!(
            outcome.bytes[..6],
            peer_mac(ifindex),
            "{program}: {description}"
        );
    }
}

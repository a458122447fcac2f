//! What NetworkPolicies let pass, packet by packet.

mod conversations;
mod places;
mod rules;

use vetch_ebpf_common::{PolicyType, RuleSet, addresses};
use vetch_ebpf_tests::{At, Body, Frame, Lab, NODE_V4, NODE_V6, POD_1, POD_2, To, UPLINK};

const ONE: At = At("from_pod", POD_1);
const TWO: At = At("from_pod", POD_2);
const NET: At = At("from_net", UPLINK);
const INTO_ONE: To = To::Pod(POD_1);
const INTO_TWO: To = To::Pod(POD_2);

/// Who speaks, in each family.
struct Side {
    one: &'static str,
    two: &'static str,
    client: &'static str,
    server: &'static str,
    outside: &'static str,
    vip: &'static str,
    node: &'static str,
    /// Of a range around `outside`, as one of IPv6.
    prefix: u32,
}

const V4: Side = Side {
    one: "10.1.0.1",
    two: "10.1.0.2",
    client: "10.1.0.1:40000",
    server: "10.1.0.2:8080",
    outside: "192.0.2.1:443",
    vip: "10.96.0.1:80",
    node: "192.168.0.10:10250",
    prefix: 96 + 24,
};
const V6: Side = Side {
    one: "fd00::1",
    two: "fd00::2",
    client: "[fd00::1]:40000",
    server: "[fd00::2]:8080",
    outside: "[2001:db8::1]:443",
    vip: "[fd96::1]:80",
    node: "[fd00:ff::10]:10250",
    prefix: 64,
};
const SIDES: [&Side; 2] = [&V4, &V6];

/// The identity of the first pod, and the number of the range.
const IDENTITY: u32 = 7;
const BLOCK: u32 = 3;

fn ingress(number: u16) -> RuleSet {
    RuleSet::new(PolicyType::Ingress, number).unwrap()
}

fn egress(number: u16) -> RuleSet {
    RuleSet::new(PolicyType::Egress, number).unwrap()
}

fn lab() -> Lab {
    let mut lab = Lab::new();
    for side in SIDES {
        lab.pod(side.one, POD_1, 0);
        lab.pod(side.two, POD_2, 0);
        lab.identity(side.one, IDENTITY);
        lab.block(ip_of(side.outside), side.prefix, BLOCK);
    }
    for node in [NODE_V4, NODE_V6] {
        lab.address(node, addresses::NODE);
    }
    lab
}

fn ip_of(endpoint: &str) -> &str {
    let (ip, _) = endpoint.rsplit_once(':').unwrap();
    ip.trim_start_matches('[').trim_end_matches(']')
}

fn echo(from: &str, to: &str) -> Frame {
    Frame::new(&no_port(from), &no_port(to), Body::Echo)
}

fn no_port(endpoint: &str) -> String {
    let (ip, _) = endpoint.rsplit_once(':').unwrap();
    format!("{ip}:0")
}

/// That it goes on as it came.
#[track_caller]
fn passes(lab: &Lab, at: At, what: &str, frame: &Frame, to: To) {
    lab.expect(at, what, frame, to, frame);
}

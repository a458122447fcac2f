//! What policies let pass, and by whose rule.

use vetch_ebpf_common::{Peer, PolicyType, Rule, RuleSet};
use vetch_policy::{ExplainedPart, ExplainedPeer, ExplainedSet};

use super::*;

#[test]
fn policies_say_by_which_rule() {
    let mut maps = snapshot();
    let ingress = RuleSet::new(PolicyType::Ingress, 3).unwrap();
    let egress = RuleSet::new(PolicyType::Egress, 4).unwrap();
    let rule = |set, peer, length, port: u16| (length, Rule::new(set, peer, 6, port.to_be_bytes()));
    maps.policies = true;
    maps.rules = Contents {
        identities: [(ip(POD), 7)].into(),
        blocks: [("203.0.113.0/24".parse().unwrap(), 9)].into(),
        rules: BTreeSet::from([
            rule(ingress, Peer::identity(7), Rule::PORT, 8080),
            rule(egress, Peer::block(9), Rule::PROTOCOL, 0),
        ]),
        ..Contents::default()
    };
    maps.pods.get_mut(&ip(OTHER)).unwrap().ingress = 3;
    maps.pods.get_mut(&ip(OTHER)).unwrap().egress = 4;
    check(
        &maps,
        &[
            (
                "the port that is let",
                POD,
                "10.1.0.2:8080/TCP",
                "pod from_pod from_pod delivered",
            ),
            (
                "another port",
                POD,
                "10.1.0.2:80/TCP",
                "pod from_pod dropped policy-ingress",
            ),
            (
                "another peer",
                CLIENT,
                "10.1.0.2:8080/TCP",
                "from_net from_net dropped policy-ingress",
            ),
            (
                "its node",
                NODE,
                "10.1.0.2:80/TCP",
                "node to_pod stack delivered",
            ),
            (
                "its node, from it",
                OTHER,
                "192.0.2.1:22/TCP",
                "pod from_pod stack delivered",
            ),
            (
                "out, to a block",
                OTHER,
                "203.0.113.7:443/TCP",
                "pod from_pod stack to_net leaves",
            ),
            (
                "out, to others",
                OTHER,
                "10.2.0.9:443/TCP",
                "pod from_pod dropped policy-egress",
            ),
            (
                "a ping, where rules have ports",
                OTHER,
                HOST,
                "pod from_pod dropped policy-egress",
            ),
            (
                "behind a service the backend is judged",
                POD,
                "10.96.0.1:80/TCP",
                "pod connect: 10.1.0.2:8080 from_pod from_pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
        ],
    );
    let said = |src: &str, dst: &str| {
        let traced = trace(&maps, &asked(src, dst));
        let hops = traced.ways[0].hops.iter();
        hops.map(|hop| hop.what.clone()).collect::<Vec<_>>()
    };
    let let_in = said(POD, "10.1.0.2:8080/TCP");
    assert!(let_in[1].contains("identity 7, TCP 8080"), "{let_in:#?}");
    let let_out = said(OTHER, "203.0.113.7:443/TCP");
    assert!(let_out[1].contains("(203.0.113.0/24, TCP)"), "{let_out:#?}");

    maps.pods.get_mut(&ip(OTHER)).unwrap().flags |= Pod::POLICY_PENDING;
    check(
        &maps,
        &[(
            "not known yet",
            POD,
            "10.1.0.2:8080/TCP",
            "pod from_pod dropped policy-pending",
        )],
    );
}

/// An exact set: the pod by TCP 80 alone, everybody else by all.
#[test]
fn tiers_say_by_whose_rule() {
    let mut maps = snapshot();
    let number = 3 | RuleSet::EXACT;
    let ingress = RuleSet::new(PolicyType::Ingress, number).unwrap();
    let pod = Peer::identity(7);
    maps.policies = true;
    maps.rules = Contents {
        identities: [(ip(POD), 7)].into(),
        rules: BTreeSet::from([
            (Rule::PORT, Rule::new(ingress, pod, 6, 80_u16.to_be_bytes())),
            (Rule::ALL, Rule::new(ingress, Peer::ANY, 0, [0; 2])),
        ]),
        ..Contents::default()
    };
    let part = |lets, by: &str, ranges: &[[u16; 2]], others| ExplainedPart {
        lets,
        by: by.to_owned(),
        ports: [(6, ranges.to_vec())].into(),
        others,
    };
    let of_pod = vec![
        part(true, "one", &[[80, 80]], false),
        part(false, "two", &[[0, 79], [81, u16::MAX]], true),
    ];
    let of_any = vec![part(true, "nobody", &[[0, u16::MAX]], true)];
    maps.words.sets = vec![ExplainedSet {
        egress: false,
        number,
        order: Vec::new(),
        peers: [(pod, of_pod), (Peer::ANY, of_any)]
            .map(|(peer, parts)| ExplainedPeer {
                peer: peer.bits(),
                parts,
            })
            .into(),
    }];
    maps.pods.get_mut(&ip(OTHER)).unwrap().ingress = number;
    for (src, dst, by, lets) in [
        (POD, "10.1.0.2:80/TCP", "by one", true),
        (POD, "10.1.0.2:81/TCP", "by two", false),
        (POD, OTHER, "by two", false),
        (CLIENT, "10.1.0.2:81/TCP", "by nobody", true),
    ] {
        let traced = trace(&maps, &asked(src, dst));
        let way = &traced.ways[0];
        assert_eq!(way.reason.is_none(), lets, "{src} {dst}: {traced:#?}");
        let said = way.hops.iter().any(|hop| hop.what.contains(by));
        assert!(said, "{src} {dst}: {traced:#?}");
    }
}

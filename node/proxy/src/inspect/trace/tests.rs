use std::collections::{BTreeMap, BTreeSet};

use vetch_ebpf_common::{Peer, PeerPods, PolicyType, Rule, RuleSet, Sources, notes::Settings};
use vetch_policy::{Contents, Explained, ExplainedPart, ExplainedPeer, ExplainedSet};

use super::*;
use crate::{
    diff::Current,
    hooks::{Attached, Kind, Program},
    model::{Backend, Balance, Exposure, Target},
    notes::LoadedFor,
};

const NODE: &str = "192.0.2.1";
const POD: &str = "10.1.0.1";
const OTHER: &str = "10.1.0.2";
const FAR: &str = "10.2.0.9";
const BEHIND: &str = "10.3.0.9";
const HOST: &str = "203.0.113.7";
const CLIENT: &str = "198.51.100.5";
const UPLINK: u32 = 2;
const TUNNEL: u32 = 7;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn backends(all: &[&str]) -> Vec<Backend> {
    let one = |text: &&str| {
        let place: SocketAddr = text.parse().unwrap();
        Backend {
            addr: place.ip(),
            port: place.port(),
        }
    };
    all.iter().map(one).collect()
}

fn frontend(text: &str) -> Frontend {
    text.parse().unwrap()
}

/// A node with two pods, an uplink and the tunnel, and these services:
///
/// | number | at | backends |
/// |---|---|---|
/// | 1 | 10.96.0.1:80/TCP, node port 30080 | a pod here, one elsewhere |
/// | 2 | 10.96.0.2:80/TCP | none |
/// | 3 | 10.96.0.3:53/UDP | one in the tunnel |
/// | 4 | 10.96.0.4:80/TCP, node port 30081, both policies Local | one elsewhere |
/// | 5 | 198.18.0.5:80/TCP, with source ranges | a pod here |
fn snapshot() -> Snapshot {
    let pod = |ifindex: u32| Pod {
        ifindex,
        netns: u64::from(ifindex) * 10,
        flags: Pod::UDP_BY_PACKET,
        ..Pod::default()
    };
    let target = |cluster: &[&str], local: &[&str]| Target {
        cluster: backends(cluster),
        local: backends(local),
        ..Target::default()
    };
    let here = "10.1.0.2:8080";
    let services = [
        (1, target(&[here, "10.2.0.9:8080"], &[here])),
        (2, Target::default()),
        (3, target(&["10.3.0.9:5353"], &[])),
        (
            4,
            Target {
                internal_local: true,
                external_local: true,
                ..target(&["10.2.0.9:8080"], &[])
            },
        ),
        (
            5,
            Target {
                source_ranges: vec!["198.51.100.0/24".parse().unwrap()],
                ..target(&[here], &[])
            },
        ),
    ];
    let inside = Exposure::CLUSTER;
    let outside = Exposure::EXTERNAL;
    let ranges = Exposure {
        source_ranges: true,
        ..outside
    };
    let frontends = [
        ("10.96.0.1:80/TCP", 1, inside),
        ("0.0.0.0:30080/TCP", 1, outside),
        ("10.96.0.2:80/TCP", 2, inside),
        ("10.96.0.3:53/UDP", 3, inside),
        ("10.96.0.4:80/TCP", 4, inside),
        ("0.0.0.0:30081/TCP", 4, outside),
        ("198.18.0.5:80/TCP", 5, ranges),
    ];
    let frontends =
        frontends.map(|(at, service, exposure)| (frontend(at), Pointer { service, exposure }));
    let at = |program, ifindex| Attached {
        program,
        kind: Kind::Tcx,
        ifindex,
    };
    let by = |link| Route::By {
        link,
        gateway: None,
    };
    let via = Route::By {
        link: UPLINK,
        gateway: Some(ip("192.0.2.254")),
    };
    let routes = [
        (NODE, Route::Local),
        (POD, by(4)),
        (OTHER, by(5)),
        (FAR, via),
        (BEHIND, by(TUNNEL)),
        (HOST, via),
        ("10.96.0.4", via),
        ("198.18.0.5", via),
        ("198.51.100.99", Route::None),
    ];
    let service = [
        "10.96.0.1",
        "10.96.0.2",
        "10.96.0.3",
        "10.96.0.4",
        "198.18.0.5",
    ];
    let flags = service.map(|at| (ip(at), addresses::SERVICE)).into_iter();
    let names = [
        (UPLINK, "eth0"),
        (4, "veth4"),
        (5, "veth5"),
        (TUNNEL, "vetch.vxlan"),
    ];
    Snapshot {
        loaded: LoadedFor {
            settings: Settings {
                masquerade: true,
                direct_return: false,
                link: UPLINK,
            },
            v4: Some(ip(NODE)),
            v6: None,
        },
        node_netns: 1,
        pods: [(ip(POD), pod(4)), (ip(OTHER), pod(5))].into(),
        addresses: flags.chain([(ip(NODE), addresses::NODE)]).collect(),
        services: Current {
            frontends: frontends.into(),
            services: services.into(),
        },
        affinity: BTreeMap::new(),
        policies: false,
        rules: Contents::default(),
        words: Explained::default(),
        peers: [
            ("10.2.0.0/24".parse().unwrap(), PeerPods::direct(UPLINK)),
            ("10.3.0.0/24".parse().unwrap(), PeerPods::in_tunnel(TUNNEL)),
        ]
        .into(),
        keeps_source: ["10.0.0.0/8", "192.0.2.0/24"]
            .map(|range| range.parse().unwrap())
            .into(),
        sources: [(UPLINK, Sources::NONE.with(ip(NODE).into()))].into(),
        links: names
            .map(|(index, name)| (index, (name.to_owned(), 1500)))
            .into(),
        attached: vec![
            at(Program::FromNet, UPLINK),
            at(Program::ToNet, UPLINK),
            at(Program::FromTunnel, TUNNEL),
            at(Program::ToNet, TUNNEL),
        ],
        routes: routes.map(|(to, route)| (ip(to), route)).into(),
    }
}

fn asked(src: &str, dst: &str) -> Question {
    let (dst, what) = match dst.parse::<Frontend>() {
        Ok(dialled) => (dialled.addr, Opening::Port(dialled.protocol, dialled.port)),
        Err(_) => (ip(dst), Opening::Ping),
    };
    Question {
        src: ip(src),
        dst,
        what,
    }
}

/// The places in order, and how it ends; ways apart.
fn short(trace: &Trace) -> String {
    let places = |hops: &[Hop]| {
        let places: Vec<&str> = hops.iter().map(|hop| hop.at).collect();
        places.join(" ")
    };
    let way = |way: &Way| {
        let to = way.backend.map_or_else(String::new, |to| format!("{to} "));
        let reason = way.reason.map_or_else(String::new, |why| format!(" {why}"));
        format!("{to}{} {}{reason}", places(&way.hops), way.outcome.as_str())
    };
    let ways: Vec<String> = trace.ways.iter().map(way).collect();
    let before = if trace.hops.is_empty() {
        String::new()
    } else {
        places(&trace.hops) + ": "
    };
    format!("{before}{}", ways.join(" | "))
}

fn check(maps: &Snapshot, table: &[(&str, &str, &str, &str)]) {
    for (what, src, dst, expected) in table {
        let traced = trace(maps, &asked(src, dst));
        assert_eq!(short(&traced), *expected, "{what}: {traced:#?}");
    }
}

#[test]
fn what_a_pod_sends() {
    check(
        &snapshot(),
        &[
            (
                "a pod here",
                POD,
                "10.1.0.2:80/TCP",
                "pod from_pod delivered",
            ),
            ("a ping", POD, OTHER, "pod from_pod delivered"),
            ("itself", POD, "10.1.0.1:80/TCP", "pod pod delivered"),
            (
                "its loopback",
                POD,
                "127.0.0.1:30080/TCP",
                "pod pod delivered",
            ),
            (
                "a pod elsewhere",
                POD,
                "10.2.0.9:80/TCP",
                "pod from_pod leaves",
            ),
            ("a pod behind a router", POD, BEHIND, "pod from_pod leaves"),
            ("its node", POD, "192.0.2.1:22/TCP", "pod stack delivered"),
            (
                "the world",
                POD,
                "203.0.113.7:443/TCP",
                "pod stack to_net leaves",
            ),
            (
                "nowhere",
                POD,
                "198.51.100.99:80/TCP",
                "pod stack unreachable",
            ),
            (
                "a service at the socket",
                POD,
                "10.96.0.1:80/TCP",
                "pod connect: 10.1.0.2:8080 from_pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "a node port",
                POD,
                "192.0.2.1:30080/TCP",
                "pod connect: 10.1.0.2:8080 from_pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "itself by a service",
                OTHER,
                "10.96.0.1:80/TCP",
                "pod connect: 10.1.0.2:8080 pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "no endpoints",
                POD,
                "10.96.0.2:80/TCP",
                "pod connect refused no-endpoints",
            ),
            (
                "a port that is none",
                POD,
                "10.96.0.1:81/TCP",
                "pod connect refused unknown-port",
            ),
            (
                "none that is here",
                POD,
                "10.96.0.4:80/TCP",
                "pod connect from_pod dropped no-local-endpoints",
            ),
            (
                "an external address from inside",
                POD,
                "192.0.2.1:30081/TCP",
                "pod connect: 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "a datagram is balanced by the packet, and then the stack's",
                POD,
                "10.96.0.3:53/UDP",
                "pod from_pod: 10.3.0.9:5353 stack stack leaves",
            ),
            (
                "source ranges ask for a packet",
                POD,
                "198.18.0.5:80/TCP",
                "pod from_pod dropped source-range",
            ),
        ],
    );
}

#[test]
fn what_the_node_sends() {
    check(
        &snapshot(),
        &[
            (
                "a pod here",
                NODE,
                "10.1.0.2:80/TCP",
                "node stack delivered",
            ),
            ("a pod elsewhere", NODE, FAR, "node stack stack leaves"),
            ("itself", NODE, "192.0.2.1:22/TCP", "node stack delivered"),
            (
                "the world",
                NODE,
                "203.0.113.7:443/TCP",
                "node stack stack leaves",
            ),
            (
                "a service",
                NODE,
                "10.96.0.1:80/TCP",
                "node connect: 10.1.0.2:8080 stack delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "a node port at its loopback",
                "127.0.0.1",
                "127.0.0.1:30080/TCP",
                "node connect: 10.1.0.2:8080 stack delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "a datagram at the socket",
                NODE,
                "10.96.0.3:53/UDP",
                "node connect: 10.3.0.9:5353 stack stack leaves",
            ),
            (
                "none that is here",
                NODE,
                "10.96.0.4:80/TCP",
                "node connect to_net dropped no-local-endpoints",
            ),
            (
                "source ranges that it is not in",
                NODE,
                "198.18.0.5:80/TCP",
                "node to_net dropped source-range",
            ),
        ],
    );
}

#[test]
fn what_comes_from_the_network() {
    let maps = snapshot();
    check(
        &maps,
        &[
            (
                "to a pod",
                CLIENT,
                "10.1.0.2:80/TCP",
                "from_net from_net delivered",
            ),
            (
                "from a pod behind a router",
                BEHIND,
                "10.1.0.2:80/TCP",
                "from_tunnel from_tunnel delivered",
            ),
            (
                "to the node",
                CLIENT,
                "192.0.2.1:22/TCP",
                "from_net stack delivered",
            ),
            (
                "to a node port",
                CLIENT,
                "192.0.2.1:30080/TCP",
                "from_net from_net: 10.1.0.2:8080 from_net delivered | 10.2.0.9:8080 nat from_net leaves",
            ),
            (
                "to one of which none is here",
                CLIENT,
                "192.0.2.1:30081/TCP",
                "from_net from_net dropped no-local-endpoints",
            ),
            (
                "from the source ranges",
                CLIENT,
                "198.18.0.5:80/TCP",
                "from_net from_net: 10.1.0.2:8080 from_net delivered",
            ),
            (
                "from others",
                HOST,
                "198.18.0.5:80/TCP",
                "from_net from_net dropped source-range",
            ),
            (
                "to a port that is none",
                CLIENT,
                "10.96.0.1:81/TCP",
                "from_net from_net refused unknown-port",
            ),
        ],
    );
    let direct = Snapshot {
        loaded: LoadedFor {
            settings: Settings {
                direct_return: true,
                ..maps.loaded.settings
            },
            ..maps.loaded
        },
        ..maps
    };
    let traced = trace(&direct, &asked(CLIENT, "192.0.2.1:30080/TCP"));
    let last = traced.ways[1].hops.last().unwrap();
    assert!(last.what.contains("IP in IP"), "{traced:#?}");
    // Whom the node knows is answered by the way it came.
    let inside = trace(&direct, &asked("10.2.0.8", "192.0.2.1:30080/TCP"));
    let last = inside.ways[1].hops.last().unwrap();
    assert!(!last.what.contains("IP in IP"), "{inside:#?}");
}

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

#[test]
fn affinity_and_maglev_leave_one() {
    let mut maps = snapshot();
    let [here, far] = ["10.1.0.2:8080", "10.2.0.9:8080"].map(|one| backends(&[one])[0]);
    let target = maps.services.services.get_mut(&1).unwrap();
    target.affinity = Some(60);
    let by_socket = Address::from_words([40, 0]);
    maps.affinity = [
        ((by_socket, 1), far),
        ((Address::from(ip(CLIENT)), 1), here),
    ]
    .into();
    let backends = |maps: &Snapshot, src: &str, dst: &str| -> Vec<String> {
        let traced = trace(maps, &asked(src, dst));
        let ways = traced.ways.iter();
        ways.map(|way| way.backend.unwrap().to_string()).collect()
    };
    assert_eq!(backends(&maps, POD, "10.96.0.1:80/TCP"), ["10.2.0.9:8080"]);
    let (node_port, local) = ("192.0.2.1:30080/TCP", ["10.1.0.2:8080"]);
    assert_eq!(backends(&maps, CLIENT, node_port), local);
    // One that has no part in the list any more.
    let target = maps.services.services.get_mut(&1).unwrap();
    target.cluster.retain(|backend| *backend != far);
    assert_eq!(backends(&maps, POD, "10.96.0.1:80/TCP"), local);

    let target = maps.services.services.get_mut(&1).unwrap();
    target.affinity = None;
    target.balance = Balance::Maglev;
    target.cluster = vec![here, far, here, far];
    assert_eq!(backends(&maps, POD, "10.96.0.1:80/TCP").len(), 2);
    let seed = vetch_ebpf_common::client_seed(ip(CLIENT).into());
    let slot = vetch_ebpf_common::one_of(seed, 4) as usize;
    let expected = maps.services.services[&1].cluster[slot];
    assert_eq!(backends(&maps, CLIENT, node_port), [expected.to_string()]);
}

#[test]
fn pods_that_ask_for_it_go_by_the_stack() {
    let mut maps = snapshot();
    maps.pods.get_mut(&ip(POD)).unwrap().flags |= Pod::BY_STACK | Pod::TCP_BY_PACKET;
    maps.pods.get_mut(&ip(OTHER)).unwrap().flags |= Pod::SHAPED;
    check(
        &maps,
        &[
            ("a pod here", POD, OTHER, "pod stack to_pod delivered"),
            ("a pod elsewhere", POD, FAR, "pod stack stack leaves"),
            (
                "its TCP by the packet",
                POD,
                "10.96.0.1:80/TCP",
                "pod from_pod: 10.1.0.2:8080 stack to_pod delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "where packets wait",
                CLIENT,
                OTHER,
                "from_net from_net delivered",
            ),
        ],
    );
    let traced = trace(&maps, &asked(CLIENT, OTHER));
    let last = traced.ways[0].hops.last().unwrap();
    assert!(last.what.contains("egress of veth5"), "{last:?}");
}

#[test]
fn every_destination_has_its_route_asked() {
    let maps = snapshot();
    for (src, dst, expected) in [
        (POD, HOST, vec![HOST]),
        (POD, "10.96.0.1:80/TCP", vec![OTHER, FAR, "10.96.0.1"]),
        (
            "127.0.0.1",
            "127.0.0.1:30080/TCP",
            vec![OTHER, FAR, "127.0.0.1"],
        ),
    ] {
        let expected = expected.into_iter().map(ip).collect();
        assert_eq!(destinations(&maps, &asked(src, dst)), expected, "{dst}");
    }
}

mod policies;
mod senders;

use std::collections::BTreeMap;

use vetch_ebpf_common::{PeerPods, Sources, notes::Settings};
use vetch_policy::{Contents, Explained};

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

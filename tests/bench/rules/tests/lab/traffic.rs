//! Connections through the rules.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4},
};

use vetch_bench_rules::{Mode, Protocol, Service};

use crate::rig::{BACKENDS, Lab, NODE, NODE_INSIDE, cluster_ip, node, service};

fn connections(mode: Mode) {
    let lab = Lab::new();
    let tcp = Service {
        node_port: Some(30080),
        ..service(10, 3)
    };
    let udp = Service {
        protocol: Protocol::Udp,
        node_port: Some(30053),
        ..service(11, 2)
    };
    let empty = Service {
        node_port: Some(30090),
        ..service(12, 0)
    };
    let alone = service(13, 1);
    let services = [tcp.clone(), udp.clone(), empty.clone(), alone.clone()];
    lab.rules().lay(mode, &node(), &services).unwrap();

    // Each of three is missed 60 times in a row once in 10^10.
    let answers: Vec<_> = (0..60)
        .map(|_| lab.client.ask(cluster_ip(&tcp)).unwrap())
        .collect();
    let hit: BTreeSet<_> = answers.iter().map(|answer| answer.backend).collect();
    assert_eq!(hit, BTreeSet::from(BACKENDS), "every backend, no other");
    assert!(
        answers.iter().all(|answer| answer.peer == NODE_INSIDE),
        "who comes from outside the pods is masqueraded: {answers:?}"
    );

    let node_port = |port| SocketAddrV4::new(NODE, port);
    let answer = lab.client.ask(node_port(30080)).unwrap();
    assert!(
        BACKENDS.contains(&answer.backend) && answer.peer == NODE_INSIDE,
        "{answer:?}"
    );

    for to in [cluster_ip(&udp), node_port(30053)] {
        let answer = lab.client.ask_udp(to).unwrap();
        assert!(BACKENDS[..2].contains(&answer.backend), "{answer:?}");
        assert_eq!(answer.peer, NODE_INSIDE);
    }

    for to in [cluster_ip(&empty), node_port(30090)] {
        let error = lab.client.ask(to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
    }

    // A pod that reaches itself through its Service.
    let answer = lab.backends.ask(cluster_ip(&alone)).unwrap();
    assert_eq!((answer.backend, answer.peer), (BACKENDS[0], NODE_INSIDE));
    // A process of the node.
    let answer = lab.node.ask(cluster_ip(&tcp)).unwrap();
    assert!(BACKENDS.contains(&answer.backend), "{answer:?}");
}

#[test]
fn connections_by_iptables() {
    connections(Mode::Iptables);
}

#[test]
fn connections_by_nftables() {
    connections(Mode::Nftables);
}

/// What nftables mode has and iptables mode has not.
#[test]
fn other_ports_of_a_cluster_ip_are_refused_by_nftables() {
    let lab = Lab::new();
    let service = service(10, 1);
    lab.rules()
        .lay(Mode::Nftables, &node(), std::slice::from_ref(&service))
        .unwrap();
    let other = SocketAddrV4::new(service.cluster_ip, 81);
    let error = lab.client.ask(other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

/// Laid again, the rules are those of the new Services and no others.
#[test]
fn laying_replaces_what_is_there() {
    let lab = Lab::new();
    let (first, second) = (service(10, 1), service(11, 1));
    for mode in [Mode::Iptables, Mode::Nftables, Mode::Iptables] {
        let rules = lab.rules();
        rules
            .lay(mode, &node(), std::slice::from_ref(&first))
            .unwrap();
        lab.client.ask(cluster_ip(&first)).unwrap();
        rules
            .lay(mode, &node(), std::slice::from_ref(&second))
            .unwrap();
        lab.client.ask(cluster_ip(&second)).unwrap();
        let all = lab.node.sh("iptables-save; nft list ruleset");
        assert!(
            !all.contains(&Ipv4Addr::new(10, 96, 0, 10).to_string()),
            "{all}"
        );
    }
}

//! What is left when the rules are gone.

use std::net::SocketAddrV4;

use vetch_bench_rules::{Mode, Service};

use crate::rig::{BACKENDS, Lab, cluster_ip, node, service};

/// Conntrack knows of no connection more than before: those that it knew stay for a while.
pub fn assert_untracked(lab: &Lab) {
    let before = lab.node.connections();
    lab.client
        .ask(SocketAddrV4::new(BACKENDS[0], 8080))
        .unwrap();
    assert!(
        lab.node.connections() <= before,
        "conntrack no longer follows"
    );
}

fn everything(mode: Mode) {
    let lab = Lab::new();
    let rules = lab.rules();
    assert!(rules.is_clean().unwrap());
    rules.remove(mode).unwrap();

    let with = Service {
        node_port: Some(30080),
        ..service(10, 3)
    };
    rules
        .lay(mode, &node(), &[with.clone(), service(12, 0)])
        .unwrap();
    assert!(!rules.is_clean().unwrap());
    lab.client.ask(cluster_ip(&with)).unwrap();
    assert_ne!(lab.node.connections(), 0, "conntrack follows");

    rules.remove(mode).unwrap();
    assert!(rules.is_clean().unwrap());
    assert_eq!(
        lab.node
            .sh("nft list ruleset; iptables-save; ip6tables-save"),
        ""
    );
    assert_untracked(&lab);
    rules.remove(mode).unwrap();
}

#[test]
fn everything_by_iptables() {
    everything(Mode::Iptables);
}

#[test]
fn everything_by_nftables() {
    everything(Mode::Nftables);
}

#[test]
fn rules_of_others_stay() {
    let lab = Lab::new();
    let rules = lab.rules();
    lab.node.sh(
        "iptables -N KUBE-ROUTER-INPUT; iptables -A INPUT -s 10.9.9.9 -j DROP
         iptables -t nat -A POSTROUTING -s 10.8.0.0/16 -j MASQUERADE
         nft add table ip mine; nft add chain ip mine c '{ type filter hook input priority 5; }'
         nft add rule ip mine c tcp dport 1234 drop",
    );
    let before = lab.node.sh("nft list ruleset");
    for mode in [Mode::Iptables, Mode::Nftables] {
        rules.lay(mode, &node(), &[service(10, 2)]).unwrap();
        assert!(!rules.is_clean().unwrap());
        rules.remove(mode).unwrap();
        assert!(rules.is_clean().unwrap());
        let after = lab.node.sh("nft list ruleset");
        // iptables leaves its built-in chains in a table that others use.
        for line in before.lines() {
            assert!(after.contains(line), "{line} is gone from\n{after}");
        }
        assert!(!after.contains("KUBE-S"), "{after}");
    }
}

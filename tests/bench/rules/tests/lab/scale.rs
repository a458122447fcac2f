//! A thousand Services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use vetch_bench_rules::{Error, Mode, Service};

use crate::removal::assert_untracked;
use crate::rig::{BACKENDS, Lab, cluster_ip, node, service};

const SERVICES: usize = 1000;

fn services() -> Vec<Service> {
    let mut services: Vec<_> = (0..SERVICES - 1)
        .map(|number| {
            let [.., high, low] = number.to_be_bytes();
            let endpoint = |last| SocketAddrV4::new(Ipv4Addr::new(10, 244, last, low), 8080);
            Service {
                name: format!("many{number}"),
                cluster_ip: Ipv4Addr::new(10, 96, high + 1, low),
                endpoints: vec![endpoint(100 + high), endpoint(110 + high)],
                ..service(0, 0)
            }
        })
        .collect();
    services.push(service(10, 2));
    services
}

/// The last of them works, in one piece or in parts they are the same, and nothing of them is left.
fn thousand(mode: Mode, count: &str) {
    let lab = Lab::new();
    let rules = lab.rules();
    let services = services();
    let took = rules
        .lay_at_once(mode, &node(), &services, Duration::from_secs(60))
        .unwrap();
    eprintln!("{mode:?}: {SERVICES} Services of 2 endpoints laid in {took:?}");
    let at_once = all(&lab, mode);
    let started = Instant::now();
    rules.lay(mode, &node(), &services).unwrap();
    eprintln!("{mode:?}: in parts in {:?}", started.elapsed());
    let in_parts = all(&lab, mode);
    assert!(at_once.len() >= SERVICES);
    assert!(at_once == in_parts, "other rules in parts than at once");
    assert_eq!(lab.node.sh(count).trim(), SERVICES.to_string());
    let answer = lab.client.ask(cluster_ip(&services[SERVICES - 1])).unwrap();
    assert!(BACKENDS[..2].contains(&answer.backend));
    let started = Instant::now();
    rules.remove(mode).unwrap();
    eprintln!("{mode:?}: removed in {:?}", started.elapsed());
    assert!(rules.is_clean().unwrap());
    assert_untracked(&lab);
}

/// Every chain with its rules in their order. Where a chain stands among the others, and the names of
/// maps that belong to one rule, mean nothing.
fn all(lab: &Lab, mode: Mode) -> BTreeSet<String> {
    let listing = match mode {
        Mode::Iptables => lab.node.sh("iptables-save"),
        Mode::Nftables => lab.node.sh("nft list table ip kube-proxy"),
    };
    match mode {
        Mode::Iptables => {
            let mut chains: BTreeMap<&str, String> = BTreeMap::new();
            let mut table = "";
            for line in listing.lines() {
                if line.starts_with('*') {
                    table = line;
                }
                if let Some(rule) = line.strip_prefix("-A ") {
                    let chain = rule.split(' ').next().unwrap_or_default();
                    *chains.entry(chain).or_default() += &format!("{table} {rule}\n");
                }
            }
            chains.into_values().collect()
        }
        // The elements of a set stand in the order of a hash that is seeded.
        Mode::Nftables => listing
            .split("\n\n")
            .map(|block| {
                let mut elements: Vec<_> = block.split(',').map(str::trim).collect();
                elements.sort_unstable();
                elements.join(", ")
            })
            .collect(),
    }
}

#[test]
fn a_program_that_takes_too_long_is_ended() {
    let lab = Lab::new();
    let rules = lab.rules();
    let limit = Duration::from_millis(20);
    let error = rules
        .lay_at_once(Mode::Iptables, &node(), &services(), limit)
        .unwrap_err();
    assert!(matches!(error, Error::Long { .. }), "{error}");
    rules.remove(Mode::Iptables).unwrap();
    assert!(rules.is_clean().unwrap());
}

#[test]
fn thousand_by_iptables() {
    thousand(Mode::Iptables, "iptables-save | grep -c ^:KUBE-SVC-");
}

#[test]
fn thousand_by_nftables() {
    thousand(
        Mode::Nftables,
        "nft list table ip kube-proxy | grep -c 'chain service-.*/'",
    );
}

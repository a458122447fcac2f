//! A thousand Services.

use std::net::{Ipv4Addr, SocketAddrV4};

use vetch_bench_rules::{Mode, Service};

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

/// The last of them works, and nothing of them is left.
fn thousand(mode: Mode, count: &str) {
    let lab = Lab::new();
    let rules = lab.rules();
    let services = services();
    let took = rules.lay(mode, &node(), &services).unwrap();
    eprintln!("{mode:?}: {SERVICES} Services of 2 endpoints laid in {took:?}");
    assert_eq!(lab.node.sh(count).trim(), SERVICES.to_string());
    let answer = lab.client.ask(cluster_ip(&services[SERVICES - 1])).unwrap();
    assert!(BACKENDS[..2].contains(&answer.backend));
    let started = std::time::Instant::now();
    rules.remove(mode).unwrap();
    eprintln!("{mode:?}: removed in {:?}", started.elapsed());
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

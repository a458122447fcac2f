use std::net::SocketAddrV4;

use super::*;
use crate::Protocol;

fn node() -> Node {
    Node {
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        addresses: vec![Ipv4Addr::new(192, 168, 0, 231)],
    }
}

/// One of a cluster that ran kube-proxy 1.36.2: its chain's name is known.
fn backend_api() -> Service {
    Service {
        namespace: "kproxy-lab".to_owned(),
        name: "backend-api".to_owned(),
        port_name: "http".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(10, 100, 192, 23),
        port: 80,
        node_port: None,
        endpoints: [8, 10]
            .map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 244, 0, last), 9898))
            .to_vec(),
    }
}

const CHAIN: &str = "service-YVSKLJHA-kproxy-lab/backend-api/tcp/http";

/// What is added of `kind` to `name`, in its order.
fn added(script: &str, kind: &str, name: &str) -> Vec<String> {
    let prefix = format!("add {kind} ip kube-proxy {name} ");
    script
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

#[test]
fn two_endpoints() {
    let script = script(&[backend_api()], &node());
    assert_eq!(
        added(&script, "rule", CHAIN),
        [
            "meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.0.10 . 9898, 1 : 10.244.0.8 . 9898 }"
        ]
    );
    assert_eq!(
        added(&script, "element", "service-ips"),
        [format!("{{ 10.100.192.23 . tcp . 80 : goto {CHAIN} }}")]
    );
    assert_eq!(
        added(&script, "element", "hairpin-connections"),
        [
            "{ 10.244.0.10 . 10.244.0.10 . tcp . 9898 }",
            "{ 10.244.0.8 . 10.244.0.8 . tcp . 9898 }",
        ]
    );
    assert_eq!(
        added(&script, "element", "cluster-ips"),
        ["{ 10.100.192.23 }"]
    );
    assert_eq!(
        added(&script, "element", "nodeport-ips"),
        ["{ 192.168.0.231 }"]
    );
    assert!(added(&script, "element", "no-endpoint-services").is_empty());
}

/// 1.37 writes a plain destination; 1.36 a map of one.
#[test]
fn one_endpoint_outside_the_pods() {
    let kubernetes = Service {
        namespace: "default".to_owned(),
        name: "kubernetes".to_owned(),
        port_name: "https".to_owned(),
        cluster_ip: Ipv4Addr::new(10, 96, 0, 1),
        port: 443,
        endpoints: vec!["192.168.0.231:6443".parse().unwrap()],
        ..backend_api()
    };
    let script = script(&[kubernetes], &node());
    assert_eq!(
        added(
            &script,
            "rule",
            "service-2QRHZV4L-default/kubernetes/tcp/https"
        ),
        [
            "meta l4proto tcp dnat ip addr . port to numgen random mod 1 map { 0 : 192.168.0.231 . 6443 }"
        ]
    );
    assert!(added(&script, "element", "hairpin-connections").is_empty());
}

#[test]
fn no_endpoints_are_refused() {
    let service = Service {
        node_port: Some(30080),
        endpoints: Vec::new(),
        ..backend_api()
    };
    let script = script(&[service], &node());
    assert_eq!(
        added(&script, "element", "no-endpoint-services"),
        [
            r#"{ 10.100.192.23 . tcp . 80 comment "kproxy-lab/backend-api:http" : goto reject-chain }"#
        ]
    );
    assert_eq!(
        added(&script, "element", "no-endpoint-nodeports"),
        [r#"{ tcp . 30080 comment "kproxy-lab/backend-api:http" : goto reject-chain }"#]
    );
    assert_eq!(
        added(&script, "element", "cluster-ips"),
        ["{ 10.100.192.23 }"]
    );
    assert!(!script.contains("chain ip kube-proxy service-YVSKLJHA"));
}

#[test]
fn node_ports_are_masqueraded() {
    let service = Service {
        node_port: Some(30080),
        protocol: Protocol::Udp,
        ..backend_api()
    };
    let name = names::nftables_service(&service);
    let script = script(&[service], &node());
    assert_eq!(
        added(&script, "element", "service-nodeports"),
        [format!("{{ udp . 30080 : goto external-{name} }}")]
    );
    assert_eq!(
        added(&script, "rule", &format!("external-{name}")),
        [
            "mark set mark or 0x4000".to_owned(),
            format!("goto service-{name}")
        ]
    );
}

#[test]
fn chains_that_all_packets_pass() {
    let script = script(&[backend_api()], &node());
    let table: [(&str, &[&str]); 10] = [
        (
            "filter-prerouting-pre-dnat",
            &["ct state new jump firewall-check"],
        ),
        (
            "filter-output-pre-dnat",
            &["ct state new jump firewall-check"],
        ),
        (
            "filter-input",
            &[
                "ct state new jump nodeport-endpoints-check",
                "ct state new jump service-endpoints-check",
            ],
        ),
        (
            "filter-forward",
            &[
                "ct state new jump service-endpoints-check",
                "ct state new jump cluster-ips-check",
            ],
        ),
        (
            "filter-output",
            &[
                "ct state new jump service-endpoints-check",
                "ct state new jump cluster-ips-check",
            ],
        ),
        ("nat-prerouting", &["jump services"]),
        ("nat-output", &["jump services"]),
        ("nat-postrouting", &["jump masquerading"]),
        (
            "services",
            &[
                r#"ip daddr @cluster-ips ip saddr != 10.244.0.0/16 mark set mark or 0x4000 comment "masquerade clusterIP traffic from outside cluster""#,
                "ip daddr . meta l4proto . th dport vmap @service-ips",
                "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
            ],
        ),
        (
            "masquerading",
            &[
                "mark and 0x4000 != 0 mark set mark xor 0x4000 masquerade fully-random",
                "ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random",
            ],
        ),
    ];
    for (chain, expected) in table {
        assert_eq!(added(&script, "rule", chain), expected, "{chain}");
    }
    assert_eq!(
        added(&script, "chain", "filter-output-pre-dnat"),
        ["{ type filter hook output priority -110 ; }"]
    );
    assert_eq!(
        added(&script, "chain", "nat-postrouting"),
        ["{ type nat hook postrouting priority 100 ; }"]
    );
}

/// Traffic to addresses of Services that nobody has is dropped, but never
/// that to pods or to the node.
#[test]
fn unallocated_addresses() {
    let at = |cluster_ip| Service {
        cluster_ip,
        ..backend_api()
    };
    let table = [
        (vec![], None),
        (
            vec![Ipv4Addr::new(10, 96, 3, 4), Ipv4Addr::new(10, 96, 0, 1)],
            Some("10.96.0.0/16"),
        ),
        (
            vec![Ipv4Addr::new(10, 96, 3, 4), Ipv4Addr::new(10, 97, 0, 1)],
            Some("10.96.0.0/16, 10.97.0.0/16"),
        ),
        (vec![Ipv4Addr::new(10, 244, 3, 4)], None),
        (vec![Ipv4Addr::new(192, 168, 7, 7)], None),
    ];
    for (addresses, expected) in table {
        let services: Vec<_> = addresses.into_iter().map(at).collect();
        assert_eq!(service_cidrs(&services, &node()).as_deref(), expected);
    }
}

#[test]
fn an_address_with_two_ports_is_one_element() {
    let other = Service {
        port: 443,
        port_name: "https".to_owned(),
        ..backend_api()
    };
    let script = script(&[backend_api(), other], &node());
    assert_eq!(added(&script, "element", "cluster-ips").len(), 1);
    assert_eq!(added(&script, "element", "service-ips").len(), 2);
}

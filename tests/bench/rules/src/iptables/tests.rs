use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::Protocol;

fn service(name: &str, endpoints: usize) -> Service {
    let number: u8 = name.trim_start_matches("svc").parse().unwrap();
    Service {
        namespace: format!("ns{number}"),
        name: name.to_owned(),
        port_name: "p80".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(172, 30, 0, 40 + number),
        port: 80,
        node_port: None,
        endpoints: (1..=endpoints)
            .map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 180, 0, last as u8), 80))
            .collect(),
    }
}

fn pods() -> Ipv4Net {
    "10.0.0.0/8".parse().unwrap()
}

/// The rules of `chain` in `table`, in their order.
fn rules(script: &str, table: &str, chain: &str) -> Vec<String> {
    let part = script
        .split('*')
        .find(|part| part.starts_with(table))
        .unwrap();
    let prefix = format!("-A {chain} ");
    part.lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

fn lay(services: &[Service]) -> String {
    script(services, &pods(), Features::default())
}

#[test]
fn one_endpoint() {
    let script = lay(&[service("svc1", 1)]);
    assert_eq!(
        rules(&script, "nat", "KUBE-SERVICES"),
        [
            r#"-m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O"#,
            r#"-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"#,
        ]
    );
    assert_eq!(
        rules(&script, "nat", "KUBE-SVC-XPGD46QRK7WJZT7O"),
        [
            r#"-m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j KUBE-MARK-MASQ"#,
            r#"-m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -j KUBE-SEP-SXIVWICOYRO3J4NJ"#,
        ]
    );
    assert_eq!(
        rules(&script, "nat", "KUBE-SEP-SXIVWICOYRO3J4NJ"),
        [
            r#"-m comment --comment "ns1/svc1:p80" -s 10.180.0.1 -j KUBE-MARK-MASQ"#,
            r#"-m comment --comment "ns1/svc1:p80" -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80"#,
        ]
    );
    assert!(rules(&script, "filter", "KUBE-SERVICES").is_empty());
}

/// Each of what is left is as likely: a third, then a half, then the rest.
#[test]
fn three_endpoints_share_evenly() {
    let script = lay(&[service("svc1", 3)]);
    let chances: Vec<_> = rules(&script, "nat", "KUBE-SVC-XPGD46QRK7WJZT7O")[1..]
        .iter()
        .map(|rule| {
            rule.split_once("--probability ")
                .map(|(_, rest)| rest.split(' ').next().unwrap().to_owned())
        })
        .collect();
    assert_eq!(
        chances,
        [
            Some("0.3333333333".to_owned()),
            Some("0.5000000000".to_owned()),
            None
        ]
    );
}

#[test]
fn endpoints_stand_in_the_order_of_their_text() {
    let mut service = service("svc1", 0);
    for last in [9, 10, 1] {
        let address = Ipv4Addr::new(10, 180, 0, last);
        service.endpoints.push(SocketAddrV4::new(address, 80));
    }
    let script = lay(&[service]);
    let rules = rules(&script, "nat", "KUBE-SVC-XPGD46QRK7WJZT7O");
    for (rule, last) in rules[1..].iter().zip([10, 1, 9]) {
        assert!(rule.contains(&format!("-> 10.180.0.{last}:80\"")), "{rule}");
    }
}

#[test]
fn node_ports_are_masqueraded() {
    let with = Service {
        node_port: Some(3003),
        ..service("svc3", 1)
    };
    let script = lay(std::slice::from_ref(&with));
    assert_eq!(
        rules(&script, "nat", "KUBE-NODEPORTS"),
        [
            r#"-m comment --comment "ns3/svc3:p80" -m tcp -p tcp --dport 3003 -j KUBE-EXT-X27LE4BHSL4DOUIK"#
        ]
    );
    assert_eq!(
        rules(&script, "nat", "KUBE-EXT-X27LE4BHSL4DOUIK"),
        [
            r#"-m comment --comment "masquerade traffic for ns3/svc3:p80 external destinations" -j KUBE-MARK-MASQ"#,
            "-j KUBE-SVC-X27LE4BHSL4DOUIK",
        ]
    );
    let none = Service {
        endpoints: Vec::new(),
        ..with
    };
    assert_eq!(
        rules(&lay(&[none]), "filter", "KUBE-EXTERNAL-SERVICES"),
        [
            r#"-m comment --comment "ns3/svc3:p80 has no endpoints" -m addrtype --dst-type LOCAL -m tcp -p tcp --dport 3003 -j REJECT"#
        ]
    );
}

#[test]
fn no_endpoints_are_refused() {
    let script = lay(&[service("svc6", 0)]);
    assert_eq!(
        rules(&script, "filter", "KUBE-SERVICES"),
        [
            r#"-m comment --comment "ns6/svc6:p80 has no endpoints" -m tcp -p tcp -d 172.30.0.46 --dport 80 -j REJECT"#
        ]
    );
    assert_eq!(
        rules(&script, "nat", "KUBE-SERVICES").len(),
        1,
        "the nodeports rule alone"
    );
    assert!(!script.contains("KUBE-SVC-"));
}

#[test]
fn udp_has_chains_of_its_own() {
    let udp = Service {
        protocol: Protocol::Udp,
        ..service("svc1", 1)
    };
    let script = lay(&[udp, service("svc1", 1)]);
    let rules = rules(&script, "nat", "KUBE-SERVICES");
    assert!(
        rules[0].contains("-m udp -p udp -d 172.30.0.41"),
        "{}",
        rules[0]
    );
    assert_ne!(
        rules[0].split(' ').next_back(),
        rules[1].split(' ').next_back()
    );
    assert!(script.contains("-m udp -p udp -j DNAT --to-destination 10.180.0.1:80"));
}

/// kube-proxy prepends one after the other: the order packets see is reversed.
#[test]
fn jumps_from_the_built_in_chains() {
    let script = lay(&[]);
    let filter = script.split("*nat").next().unwrap();
    let targets = |chain: &str| -> Vec<_> {
        let prefix = format!("-I {chain} ");
        let mut jumps: Vec<_> = filter
            .lines()
            .filter(|line| line.starts_with(&prefix))
            .collect();
        jumps.reverse();
        jumps
            .iter()
            .map(|line| line.split(' ').next_back().unwrap())
            .collect()
    };
    assert_eq!(
        targets("INPUT"),
        [
            "KUBE-FIREWALL",
            "KUBE-PROXY-FIREWALL",
            "KUBE-NODEPORTS",
            "KUBE-EXTERNAL-SERVICES"
        ]
    );
    assert_eq!(
        targets("FORWARD"),
        [
            "KUBE-PROXY-FIREWALL",
            "KUBE-FORWARD",
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES"
        ]
    );
    assert_eq!(
        targets("OUTPUT"),
        ["KUBE-FIREWALL", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES"]
    );
}

#[test]
fn marks_and_forwarding() {
    let script = lay(&[]);
    assert_eq!(
        rules(&script, "nat", "KUBE-POSTROUTING"),
        [
            "-m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-j MARK --xor-mark 0x4000",
            r#"-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#,
        ]
    );
    assert_eq!(
        rules(&script, "nat", "KUBE-MARK-MASQ"),
        ["-j MARK --or-mark 0x4000"]
    );
    assert_eq!(
        rules(&script, "filter", "KUBE-FORWARD"),
        [
            "-m conntrack --ctstate INVALID -j DROP",
            r#"-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT"#,
            r#"-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"#,
        ]
    );
}

#[test]
fn features_of_the_kernel() {
    let node_port = Service {
        node_port: Some(3003),
        ..service("svc3", 1)
    };
    let with = |features| script(std::slice::from_ref(&node_port), &pods(), features);
    let counted = with(Features {
        accounting: true,
        tcp_be_liberal: false,
    });
    assert_eq!(
        rules(&counted, "nat", "KUBE-NODEPORTS"),
        [
            r#"-m comment --comment "ns3/svc3:p80" -m tcp -p tcp -d 127.0.0.0/8 --dport 3003 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT-X27LE4BHSL4DOUIK"#,
            r#"-m comment --comment "ns3/svc3:p80" -m tcp -p tcp --dport 3003 -j KUBE-EXT-X27LE4BHSL4DOUIK"#,
        ]
    );
    assert_eq!(
        rules(&counted, "filter", "KUBE-FORWARD")[0],
        "-m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP"
    );
    let liberal = with(Features {
        accounting: true,
        tcp_be_liberal: true,
    });
    assert!(!liberal.contains("INVALID"));
}

#[test]
fn a_large_cluster_has_no_comments_on_endpoints() {
    let services = |count: usize| -> Vec<_> { (0..count).map(|_| service("svc1", 1)).collect() };
    assert!(lay(&services(1000)).contains("-> 10.180.0.1:80"));
    let large = lay(&services(1001));
    assert!(!large.contains("-> 10.180.0.1:80"));
    assert!(large.contains("-A KUBE-SEP-SXIVWICOYRO3J4NJ -s 10.180.0.1 -j KUBE-MARK-MASQ\n"));
    assert!(
        large.contains(r#"--comment "ns1/svc1:p80 cluster IP""#),
        "those of Services stay"
    );
}

#[test]
fn a_port_without_a_name() {
    let nameless = Service {
        port_name: String::new(),
        ..service("svc1", 1)
    };
    assert!(lay(&[nameless]).contains(r#""ns1/svc1 cluster IP""#));
}

#[test]
fn services_keep_their_order() {
    let script = lay(&[service("svc3", 1), service("svc1", 1), service("svc2", 1)]);
    let addresses: Vec<_> = rules(&script, "nat", "KUBE-SERVICES")
        .iter()
        .filter_map(|rule| Some(rule.split_once("-d ")?.1.split(' ').next()?.to_owned()))
        .collect();
    assert_eq!(addresses, ["172.30.0.43", "172.30.0.41", "172.30.0.42"]);
}

#[test]
fn removal_takes_ours_and_leaves_others() {
    let saved = "# Generated by iptables-save\n\
*filter\n:INPUT ACCEPT [1:2]\n:KUBE-SERVICES - [0:0]\n:KUBE-ROUTER-INPUT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\n\
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"a b\" -j KUBE-SERVICES\n\
-A INPUT -s 10.9.9.9/32 -j DROP\n-A INPUT -j KUBE-ROUTER-INPUT\n\
-A KUBE-SERVICES -d 172.30.0.46/32 -p tcp -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n\
*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 10.1.0.0/16 -j MASQUERADE\nCOMMIT\n\
*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n";
    assert_eq!(
        removal(saved).unwrap(),
        "*filter\n:KUBE-SERVICES - [0:0]\n\
-D INPUT -m conntrack --ctstate NEW -m comment --comment \"a b\" -j KUBE-SERVICES\n\
-X KUBE-SERVICES\nCOMMIT\n\
*mangle\n:KUBE-PROXY-CANARY - [0:0]\n-X KUBE-PROXY-CANARY\nCOMMIT\n"
    );
    assert_eq!(
        removal("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"),
        None
    );
    assert_eq!(removal(""), None);
}

//! One rule of the API at a time.

use std::net::IpAddr;

use serde_json::{Value, json};
use vetch_ebpf_common::PolicyType;

use super::{Attempt, Cluster, lets};
use crate::{Contents, Held, Policy, compile};

pub fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub fn namespace(name: &str, team: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, "team": team}}})
}

pub fn pod(namespace: &str, name: &str, ip: &str, web: u16) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": ip, "labels": {"app": name}},
        "spec": {"nodeName": "here", "containers": [
            {"name": "c", "ports": [{"name": "web", "containerPort": web, "protocol": "TCP"}]}
        ]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}

/// `server` in `one` is what the policy selects, unless it says something else.
pub fn cluster(spec: Value) -> Cluster {
    let mut whole =
        json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let mut host = pod("one", "host", "10.9.0.1", 80);
    host["spec"]["hostNetwork"] = json!(true);
    Cluster {
        node: "here".into(),
        policies: vec![read(
            json!({"metadata": {"name": "p", "namespace": "one"}, "spec": whole}),
        )],
        namespaces: vec![
            read(namespace("one", "red")),
            read(namespace("two", "red")),
            read(namespace("three", "blue")),
        ],
        pods: [
            pod("one", "server", "10.1.0.1", 8080),
            pod("one", "client", "10.1.0.2", 80),
            pod("two", "client", "10.1.0.3", 81),
            pod("three", "other", "10.1.0.4", 82),
            host,
        ]
        .into_iter()
        .map(read)
        .collect(),
        ..Cluster::default()
    }
}

pub const SERVER: &str = "10.1.0.1";
pub const CLIENT: &str = "10.1.0.2";
pub const OF_TWO: &str = "10.1.0.3";
pub const OF_THREE: &str = "10.1.0.4";
pub const HOST: &str = "10.9.0.1";
pub const OUTSIDE: &str = "192.0.2.1";

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const ICMP: u8 = 1;

pub fn passes(cluster: &Cluster, from: &str, to: &str, protocol: u8, port: u16) -> bool {
    let attempt = Attempt {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        protocol,
        port,
    };
    lets(&cluster.contents(&Contents::default()), attempt)
}

/// Who of all gets to the server's port 80 by TCP, or whom it gets to.
pub fn who(cluster: &Cluster, of: PolicyType) -> Vec<&'static str> {
    let all = [SERVER, CLIENT, OF_TWO, OF_THREE, HOST, OUTSIDE];
    let passes = |peer: &&str| match of {
        PolicyType::Ingress => passes(cluster, peer, SERVER, TCP, 80),
        PolicyType::Egress => passes(cluster, SERVER, peer, TCP, 80),
    };
    all.into_iter().filter(passes).collect()
}

#[test]
fn peers() {
    let all = [SERVER, CLIENT, OF_TWO, OF_THREE, HOST, OUTSIDE];
    let client = json!({"matchLabels": {"app": "client"}});
    let red = json!({"matchLabels": {"team": "red"}});
    let block = |cidr: &str, except: &[&str]| json!({"ipBlock": {"cidr": cidr, "except": except}});
    let table: [(&str, Value, &[&str]); 14] = [
        ("nobody", json!([]), &[SERVER]),
        ("anybody", json!([{}]), &all),
        (
            "an empty list of peers is anybody",
            json!([{"PEERS": []}]),
            &all,
        ),
        (
            "pods of the namespace",
            json!([{"PEERS": [{"podSelector": {}}]}]),
            &[SERVER, CLIENT],
        ),
        (
            "by label",
            json!([{"PEERS": [{"podSelector": client}]}]),
            &[SERVER, CLIENT],
        ),
        (
            "all namespaces",
            json!([{"PEERS": [{"namespaceSelector": {}}]}]),
            &[SERVER, CLIENT, OF_TWO, OF_THREE],
        ),
        (
            "some namespaces",
            json!([{"PEERS": [{"namespaceSelector": red}]}]),
            &[SERVER, CLIENT, OF_TWO],
        ),
        (
            "both together",
            json!([{"PEERS": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "two"}},
                "podSelector": client}]}]),
            &[SERVER, OF_TWO],
        ),
        (
            "two peers are either",
            json!([{"PEERS": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}},
                {"podSelector": client}]}]),
            &[SERVER, CLIENT, OF_THREE],
        ),
        (
            "two rules are either",
            json!([{"PEERS": [block("192.0.2.0/24", &[])]}, {"PEERS": [{"podSelector": {}}]}]),
            &[SERVER, CLIENT, OUTSIDE],
        ),
        (
            "a block is pods, nodes and others",
            json!([{"PEERS": [block("10.0.0.0/8", &[])]}]),
            &[SERVER, CLIENT, OF_TWO, OF_THREE, HOST],
        ),
        (
            "but for",
            json!([{"PEERS": [block("10.0.0.0/8", &["10.1.0.2/31"])]}]),
            &[SERVER, OF_THREE, HOST],
        ),
        (
            "what one leaves out another may have",
            json!([{"PEERS": [block("10.0.0.0/8", &["10.1.0.2/31"]), block("10.1.0.2/32", &[])]}]),
            &[SERVER, CLIENT, OF_THREE, HOST],
        ),
        (
            "everything but",
            json!([{"PEERS": [block("0.0.0.0/0", &["10.0.0.0/8"])]}]),
            &[SERVER, OUTSIDE],
        ),
    ];
    for (what, rules, expected) in table {
        for (of, key, types) in [
            (PolicyType::Ingress, "from", "Ingress"),
            (PolicyType::Egress, "to", "Egress"),
        ] {
            let rules = rules.to_string().replace("PEERS", key);
            let rules: Value = serde_json::from_str(&rules).unwrap();
            let cluster = cluster(json!({
                "policyTypes": [types],
                (if key == "from" { "ingress" } else { "egress" }): rules,
            }));
            assert_eq!(who(&cluster, of), expected, "{what}, {types}");
            let other = match of {
                PolicyType::Ingress => PolicyType::Egress,
                PolicyType::Egress => PolicyType::Ingress,
            };
            assert_eq!(who(&cluster, other), all, "{what}: the other way");
        }
    }
}

#[test]
fn ports() {
    type Case = (Value, &'static [(u8, u16, bool)]);
    let table: [Case; 8] = [
        (
            json!([]),
            &[(TCP, 1, true), (SCTP, 1, true), (ICMP, 0, true)],
        ),
        (
            json!([{"port": 80}]),
            &[(TCP, 80, true), (UDP, 80, false), (ICMP, 0, false)],
        ),
        (
            json!([{"protocol": "UDP"}]),
            &[(UDP, 1, true), (UDP, 65_535, true), (TCP, 1, false)],
        ),
        (
            json!([{"protocol": "SCTP", "port": 80}]),
            &[(SCTP, 80, true), (TCP, 80, false)],
        ),
        (
            json!([{"port": 8000, "endPort": 8100}]),
            &[
                (TCP, 7999, false),
                (TCP, 8000, true),
                (TCP, 8100, true),
                (TCP, 8101, false),
            ],
        ),
        (
            json!([{"port": 80}, {"protocol": "UDP", "port": 53}]),
            &[(TCP, 80, true), (UDP, 53, true), (TCP, 53, false)],
        ),
        (
            json!([{"port": "web"}]),
            &[(TCP, 8080, true), (TCP, 80, false)],
        ),
        (
            json!([{"port": "nobody"}]),
            &[(TCP, 8080, false), (TCP, 0, false), (ICMP, 0, false)],
        ),
    ];
    for (ports, attempts) in table {
        let cluster = cluster(json!({"ingress": [{"ports": ports}]}));
        for (protocol, port, expected) in attempts {
            let passes = passes(&cluster, CLIENT, SERVER, *protocol, *port);
            assert_eq!(passes, *expected, "{ports}: {protocol} {port}");
        }
    }
}

/// Each pod that is spoken to has its own port of the name, and what is no pod has
/// none.
#[test]
fn named_ports_of_those_that_are_spoken_to() {
    let rules = [
        (json!({"ports": [{"port": "web"}]}), true),
        (
            json!({"to": [{"namespaceSelector": {}}], "ports": [{"port": "web"}]}),
            true,
        ),
        (
            json!({"to": [{"ipBlock": {"cidr": "10.1.0.2/32"}}], "ports": [{"port": "web"}]}),
            false,
        ),
    ];
    for (rule, of_others) in rules {
        let cluster = cluster(json!({"policyTypes": ["Egress"], "egress": [rule]}));
        for (to, port, expected) in [
            (CLIENT, 80, true),
            (CLIENT, 81, false),
            (OF_TWO, 81, of_others),
            (OF_TWO, 80, false),
            (OF_THREE, 82, of_others),
            (HOST, 80, false),
            (OUTSIDE, 80, false),
        ] {
            let passes = passes(&cluster, SERVER, to, TCP, port);
            assert_eq!(passes, expected, "{to} {port}");
        }
    }
}

#[test]
fn what_an_api_server_has_not_defaulted() {
    let policy = |spec: Value| -> Policy { Policy::read(&read(json!({"spec": spec}))) };
    let ingress = policy(json!({"podSelector": {}}));
    assert!(ingress.ingress.is_some() && ingress.egress.is_none());
    let both = policy(json!({"podSelector": {}, "egress": [{}]}));
    assert!(both.ingress.is_some() && both.egress.is_some());
}

#[test]
fn pods_are_held_once_they_are_known() {
    let held = |ingress, egress| Held::Rules { ingress, egress };
    let cluster = cluster(json!({}));
    let mut world = cluster.world();
    let server: IpAddr = SERVER.parse().unwrap();
    assert_eq!(compile(&world).pods[&server], held(Some(0), None));
    let client: IpAddr = CLIENT.parse().unwrap();
    assert_eq!(compile(&world).pods[&client], held(None, None));
    // Another pod of the name, of which the API server has told; this one it has not.
    if let Some(Some(owner)) = world.local.get_mut(&server) {
        owner.uid = "newer".into();
    }
    assert_eq!(compile(&world).pods[&server], Held::Pending);
    // An earlier daemon attached it, and it is known by its address.
    world.local.insert(server, None);
    assert_eq!(compile(&world).pods[&server], held(Some(0), None));
    // A sandbox of somebody else's.
    let nobody: IpAddr = "10.1.0.77".parse().unwrap();
    world.local.insert(nobody, None);
    assert_eq!(compile(&world).pods[&nobody], held(None, None));
    // Without policies nobody waits for anything.
    world.policies.clear();
    world.pods.clear();
    let wanted = compile(&world);
    assert!(wanted.pods.values().all(|one| *one == held(None, None)));
}

#[test]
fn a_static_pod_is_known_by_its_mirror() {
    let mut cluster = cluster(json!({}));
    let mut mirror = pod("one", "server", SERVER, 8080);
    mirror["metadata"]["uid"] = json!("the mirror's");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "the static pod's"});
    cluster.pods[0] = read(mirror);
    let mut world = cluster.world();
    let server: IpAddr = SERVER.parse().unwrap();
    for (uid, known) in [("the static pod's", true), ("the mirror's", false)] {
        let owner = world.local.get_mut(&server).unwrap().as_mut().unwrap();
        owner.uid = uid.into();
        let is_held = compile(&world).pods[&server] != Held::Pending;
        assert_eq!(is_held, known, "{uid}");
    }
}

#[test]
fn an_address_is_the_later_pods() {
    let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]});
    let mut cluster = cluster(json!({"ingress": [rule]}));
    let mut other = pod("three", "later", CLIENT, 80);
    other["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    cluster.pods.push(read(other.clone()));
    assert_eq!(who(&cluster, PolicyType::Ingress), [SERVER]);
    other["status"]["phase"] = json!("Failed");
    *cluster.pods.last_mut().unwrap() = read(other);
    assert_eq!(who(&cluster, PolicyType::Ingress), [SERVER, CLIENT]);
}

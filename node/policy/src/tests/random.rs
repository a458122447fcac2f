//! Clusters made at random: every pair of addresses, on every port that anybody
//! names and one that nobody does.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::api::core::v1::Node;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use vetch_ebpf_common::PolicyType;

use super::{Attempt, Cluster, admin, end_lets, lets, reference};
use crate::{Contents, compile, steps};

const NAMESPACES: [&str; 3] = ["a", "ab", "c"];
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
pub const NAMES: [&str; 3] = ["web", "dns", "none"];
pub const BLOCKS: [&str; 9] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/24",
    "10.1.0.0/29",
    "10.1.0.4/30",
    "10.1.0.5/32",
    "192.0.2.0/24",
    "::/0",
    "fd00:1::/125",
];
/// Of nobody in the cluster.
const OUTSIDE: [&str; 4] = ["192.0.2.1", "198.51.100.1", "2001:db8::1", "10.1.0.200"];
pub const PORTS: [u16; 6] = [53, 80, 81, 8080, 8095, 9999];

pub fn selector(rng: &mut StdRng) -> Value {
    let (key, value) = (["app", "env"].choose(rng), ["x", "y"].choose(rng));
    match rng.random_range(0..6) {
        0 => json!({}),
        1 | 2 => json!({"matchLabels": {*key.unwrap(): value}}),
        3 => json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]}),
        4 => json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["x", "z"]}]}),
        _ => {
            let operator = ["Exists", "DoesNotExist"].choose(rng);
            json!({"matchExpressions": [{"key": key, "operator": operator}]})
        }
    }
}

fn labels(rng: &mut StdRng) -> Value {
    let mut labels = json!({});
    for key in ["app", "env"] {
        if let Some(value) = [None, Some("x"), Some("y"), Some("z")].choose(rng).unwrap() {
            labels[key] = json!(value);
        }
    }
    labels
}

fn peer(rng: &mut StdRng) -> Value {
    match rng.random_range(0..6) {
        0 | 1 => json!({"podSelector": selector(rng)}),
        2 => json!({"namespaceSelector": selector(rng)}),
        3 => json!({"namespaceSelector": selector(rng), "podSelector": selector(rng)}),
        _ => {
            let cidr = *BLOCKS.choose(rng).unwrap();
            let outer: ipnet::IpNet = cidr.parse().unwrap();
            let inner = BLOCKS.iter().filter(|text| {
                let net: ipnet::IpNet = text.parse().unwrap();
                outer.contains(&net) && net != outer
            });
            let except: Vec<&&str> = inner.filter(|_| rng.random_bool(0.3)).collect();
            json!({"ipBlock": {"cidr": cidr, "except": except}})
        }
    }
}

fn port(rng: &mut StdRng) -> Value {
    let protocol = PROTOCOLS.choose(rng);
    match rng.random_range(0..5) {
        0 => json!({"protocol": protocol}),
        1 | 2 => json!({"protocol": protocol, "port": PORTS.choose(rng)}),
        3 => json!({"protocol": protocol, "port": NAMES.choose(rng)}),
        _ => {
            let first = rng.random_range(1..9000);
            json!({"protocol": protocol, "port": first, "endPort": first + rng.random_range(0..5000)})
        }
    }
}

fn rules(rng: &mut StdRng, peers: &str) -> Value {
    let count = rng.random_range(0..3);
    let rule = |rng: &mut StdRng| {
        let many = rng.random_range(0..3);
        let to: Vec<Value> = (0..many).map(|_| peer(rng)).collect();
        let many = rng.random_range(0..3);
        let ports: Vec<Value> = (0..many).map(|_| port(rng)).collect();
        json!({peers: to, "ports": ports})
    };
    (0..count).map(|_| rule(rng)).collect()
}

fn policy(rng: &mut StdRng, at: usize) -> Value {
    let types = [
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ];
    json!({
        "metadata": {"name": format!("p{at}"), "namespace": NAMESPACES.choose(rng)},
        "spec": {
            "podSelector": selector(rng),
            "policyTypes": types.choose(rng),
            "ingress": rules(rng, "from"),
            "egress": rules(rng, "to"),
        }
    })
}

fn pod(rng: &mut StdRng, at: usize) -> Value {
    let host_network = rng.random_bool(0.1);
    let ips = if host_network {
        vec!["10.9.0.1".to_owned()]
    } else {
        vec![format!("10.1.0.{at}"), format!("fd00:1::{at:x}")]
    };
    let ips: Vec<Value> = ips.into_iter().map(|ip| json!({"ip": ip})).collect();
    let ports = NAMES[..2].iter().map(|name| {
        let (protocol, number) = (PROTOCOLS.choose(rng), PORTS.choose(rng));
        json!({"name": name, "protocol": protocol, "containerPort": number})
    });
    let ports: Vec<Value> = ports.collect();
    json!({
        "metadata": {
            "name": format!("pod-{at}"),
            "namespace": NAMESPACES.choose(rng),
            "uid": format!("uid-{at}"),
            "labels": labels(rng),
        },
        "spec": {
            "nodeName": (["here", "there"].choose(rng)),
            "hostNetwork": host_network,
            "containers": [{"name": "c", "ports": ports}],
        },
        "status": {
            "phase": (if rng.random_bool(0.1) { "Succeeded" } else { "Running" }),
            "podIPs": ips,
        }
    })
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn cluster(rng: &mut StdRng) -> Cluster {
    let policies = rng.random_range(0..6);
    let pods = rng.random_range(1..9);
    // Every third has none.
    let count = [0, 1, 4][rng.random_range(0..3)];
    let node = |(name, address, labels): (&str, &str, Value)| -> Node {
        let addresses = json!([{"type": "InternalIP", "address": address}]);
        read(
            json!({"metadata": {"name": name, "labels": labels}, "status": {"addresses": addresses}}),
        )
    };
    Cluster {
        node: "here".into(),
        admin: (0..count).map(|at| admin::policy(rng, at)).collect(),
        baseline: (count != 0 && rng.random_bool(0.5)).then(|| admin::baseline(rng)),
        nodes: [
            ("here", "10.9.0.1", labels(rng)),
            ("there", "192.0.2.1", labels(rng)),
        ]
        .map(node)
        .into(),
        policies: (0..policies).map(|at| read(policy(rng, at))).collect(),
        namespaces: NAMESPACES
            .iter()
            .map(|name| read(json!({"metadata": {"name": name, "labels": labels(rng)}})))
            .collect(),
        pods: (1..=pods).map(|at| read(pod(rng, at))).collect(),
    }
}

/// Who speaks to whom, one of them a pod.
fn attempts(cluster: &Cluster) -> Vec<Attempt> {
    let ips: Vec<IpAddr> = cluster
        .pods
        .iter()
        .flat_map(|pod| pod.status.as_ref().unwrap().pod_ips.iter().flatten())
        .map(|ip| ip.ip.as_str())
        .chain(OUTSIDE)
        .map(|ip| ip.parse().unwrap())
        .collect();
    let mut attempts = Vec::new();
    for from in &ips {
        for to in ips.iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
            let with_ports = [6, 17, 132].into_iter();
            let with_ports = with_ports.flat_map(|protocol| PORTS.map(|port| (protocol, port)));
            for (protocol, port) in with_ports.chain([(1, 0)]) {
                attempts.push(Attempt {
                    from: *from,
                    to: *to,
                    protocol,
                    port,
                });
            }
        }
    }
    attempts
}

#[test]
fn the_programs_judge_as_the_api_says() {
    let mut outcomes = [0_usize; 2];
    for seed in 0..300 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let cluster = cluster(rng);
        // From whatever was in the maps before.
        let before = if seed % 3 == 0 {
            Contents::default()
        } else {
            self::cluster(rng).contents(&Contents::default())
        };
        let contents = cluster.contents(&before);
        for attempt in attempts(&cluster) {
            let expected = reference::lets(&cluster, attempt);
            assert_eq!(
                lets(&contents, attempt),
                expected,
                "seed {seed}: {attempt:?} in {cluster:#?} by {contents:#?}"
            );
            outcomes[usize::from(expected)] += 1;
        }
    }
    // A test in which everything passes shows nothing.
    assert!(outcomes.iter().all(|count| *count > 10_000), "{outcomes:?}");
}

#[test]
fn a_daemon_that_starts_over_writes_nothing() {
    for seed in 0..300 {
        let cluster = cluster(&mut StdRng::seed_from_u64(seed));
        let contents = cluster.contents(&Contents::default());
        let again = cluster.contents(&contents);
        assert_eq!(again, contents, "seed {seed}");
        assert!(steps(&contents, &again).is_empty());
    }
}

/// What is between two states lets pass what one of them does, but for who comes to
/// have a number that others have already: to them its old rules apply until they go.
#[test]
fn nothing_passes_on_the_way_that_neither_end_lets_pass() {
    let mut seen = 0;
    for seed in 0..150 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let old = cluster(rng);
        let mut new = old.clone();
        let other = cluster(rng);
        new.policies = other.policies;
        new.admin = other.admin;
        new.baseline = other.baseline;
        let from = old.contents(&Contents::default());
        let to = new.contents(&from);
        let steps = steps(&from, &to);
        let used: BTreeSet<u32> = from.identities.values().copied().collect();
        let joins = |ip: &IpAddr| {
            let number = to.identities.get(ip);
            number != from.identities.get(ip) && number.is_some_and(|one| used.contains(one))
        };
        let mut between = from.clone();
        between.rules.extend(steps.add_rules_of_new.iter().copied());
        let mut states = vec![between.clone()];
        between.blocks.extend(&to.blocks);
        between.identities.extend(&to.identities);
        states.push(between.clone());
        between.rules.extend(steps.add_rules.iter().copied());
        states.push(between.clone());
        between.pods.clone_from(&to.pods);
        states.push(between.clone());
        for gone in &steps.remove_rules {
            between.rules.remove(gone);
        }
        states.push(between.clone());
        let gone = |ip: &IpAddr| steps.remove_identities.contains(ip);
        between.identities.retain(|ip, _| !gone(ip));
        states.push(between.clone());
        between
            .blocks
            .retain(|range, _| !steps.remove_blocks.contains(range));
        assert_eq!(between, to, "seed {seed}");
        for attempt in attempts(&old) {
            if joins(&attempt.from) || joins(&attempt.to) {
                continue;
            }
            for of in [PolicyType::Ingress, PolicyType::Egress] {
                let either = [&old, &new]
                    .iter()
                    .any(|cluster| reference::end_lets(cluster, of, attempt));
                seen += usize::from(!either);
                for (at, state) in states.iter().enumerate() {
                    assert!(
                        either || !end_lets(state, of, attempt),
                        "seed {seed}, state {at}: {of:?} of {attempt:?}"
                    );
                }
            }
        }
    }
    assert!(seen > 1000, "{seen}");
}

/// However many pods there are, the maps grow with what rules tell apart.
#[test]
fn rules_do_not_grow_with_pods() {
    let mut sizes = Vec::new();
    for count in [20, 200] {
        let pod = |at: usize| {
            let labels = json!({"app": "x", "number": at.to_string()});
            read(json!({
                "metadata": {"name": format!("p{at}"), "namespace": "a", "uid": at.to_string(), "labels": labels},
                "spec": {"nodeName": if at < 10 { "here" } else { "there" }, "containers": []},
                "status": {"podIPs": [{"ip": format!("10.1.{}.{}", at / 200, at % 200)}]},
            }))
        };
        let rule = json!({"from": [{"podSelector": {"matchLabels": {"app": "x"}}}], "ports": [{"port": 80}]});
        let cluster = Cluster {
            node: "here".into(),
            policies: vec![read(json!({
                "metadata": {"name": "p", "namespace": "a"},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [rule]},
            }))],
            namespaces: vec![read(json!({"metadata": {"name": "a"}}))],
            pods: (0..count).map(pod).collect(),
            ..Cluster::default()
        };
        let wanted = compile(&cluster.world());
        assert_eq!(wanted.identities.len(), count);
        sizes.push((
            wanted.ingress.len(),
            cluster.contents(&Contents::default()).rules.len(),
        ));
    }
    assert_eq!(sizes, [(1, 1), (1, 1)]);
}

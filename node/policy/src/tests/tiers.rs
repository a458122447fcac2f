//! The tiers of administrators' policies, one rule of the API at a time.

use std::net::IpAddr;

use serde_json::{Value, json};
use vetch_ebpf_common::{Peer, PolicyType, RuleSet};

use super::{
    Cluster,
    tables::{
        CLIENT, HOST, ICMP, OF_THREE, OF_TWO, OUTSIDE, SCTP, SERVER, TCP, UDP, cluster, passes,
        read, who,
    },
};
use crate::{Contents, compile, explain, number};

/// The cluster of the tables with these policies instead of its own.
fn with(admin: &[Value], policies: &[Value], baseline: Option<Value>) -> Cluster {
    let mut cluster = cluster(json!({}));
    cluster.policies = policies.iter().cloned().map(read).collect();
    cluster.admin = admin.to_vec();
    cluster.baseline = baseline;
    cluster
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn subject() -> Value {
    json!({"pods": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "one"}},
        "podSelector": {"matchLabels": {"app": "server"}},
    }})
}

/// For the server, with rules for what comes to it.
fn admin(name: &str, priority: i32, ingress: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"priority": priority, "subject": subject(), "ingress": ingress},
    })
}

fn outwards(name: &str, priority: i32, egress: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"priority": priority, "subject": subject(), "egress": egress},
    })
}

fn baseline(ingress: Value) -> Value {
    json!({"metadata": {"name": "default"}, "spec": {"subject": subject(), "ingress": ingress}})
}

/// A NetworkPolicy that lets these in to the server.
fn network_policy(ingress: Value) -> Value {
    json!({
        "metadata": {"name": "p", "namespace": "one"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    })
}

fn from(action: &str, namespaces: &Value) -> Value {
    json!({"action": action, "from": [{"namespaces": namespaces}]})
}

fn team(name: &str) -> Value {
    json!({"matchLabels": {"team": name}})
}

const ALL: [&str; 6] = [SERVER, CLIENT, OF_TWO, OF_THREE, HOST, OUTSIDE];

/// Who gets in. `team` red is of namespaces one and two, blue of three.
#[test]
fn the_first_rule_decides() {
    let all = json!({});
    let (red, blue) = (team("red"), team("blue"));
    let (allow, deny, pass) = (
        |of: &Value| from("Allow", of),
        |of: &Value| from("Deny", of),
        |of: &Value| from("Pass", of),
    );
    let closed = network_policy(json!([]));
    let open_for_blue = network_policy(json!([{"from": [{"namespaceSelector": blue}]}]));
    type Case<'a> = (
        &'a str,
        Vec<Value>,
        Vec<Value>,
        Option<Value>,
        &'a [&'a str],
    );
    let table: Vec<Case<'_>> = vec![
        (
            "deny some",
            vec![admin("a", 5, json!([deny(&blue)]))],
            vec![],
            None,
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "deny all pods, and nobody else",
            vec![admin("a", 5, json!([deny(&all)]))],
            vec![],
            None,
            &[SERVER, HOST, OUTSIDE],
        ),
        (
            "rules in their order",
            vec![admin("a", 5, json!([allow(&red), deny(&all)]))],
            vec![],
            None,
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "lower priorities first",
            vec![
                admin("a", 6, json!([allow(&all)])),
                admin("b", 5, json!([deny(&blue)])),
            ],
            vec![],
            None,
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "of one priority by name",
            vec![
                admin("b", 5, json!([deny(&all)])),
                admin("a", 5, json!([allow(&red)])),
            ],
            vec![],
            None,
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "before a NetworkPolicy",
            vec![admin("a", 5, json!([allow(&red)]))],
            vec![closed.clone()],
            None,
            &[SERVER, CLIENT, OF_TWO],
        ),
        (
            "denied whatever a NetworkPolicy says",
            vec![admin("a", 5, json!([deny(&blue)]))],
            vec![open_for_blue.clone()],
            None,
            &[SERVER],
        ),
        (
            "passed on to a NetworkPolicy, beyond later rules",
            vec![
                admin("a", 5, json!([pass(&blue)])),
                admin("b", 6, json!([deny(&blue)])),
            ],
            vec![open_for_blue.clone()],
            None,
            &[SERVER, OF_THREE],
        ),
        (
            "passed on to nothing",
            vec![
                admin("a", 5, json!([pass(&blue), deny(&all)])),
                admin("b", 6, json!([deny(&blue)])),
            ],
            vec![],
            None,
            &[SERVER, OF_THREE, HOST, OUTSIDE],
        ),
        (
            "passed on to the baseline",
            vec![admin("a", 5, json!([pass(&all)]))],
            vec![],
            Some(baseline(json!([deny(&blue)]))),
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "a baseline alone",
            vec![],
            vec![],
            Some(baseline(json!([allow(&red), deny(&all)]))),
            &[SERVER, CLIENT, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "a baseline beside a NetworkPolicy",
            vec![],
            vec![open_for_blue.clone()],
            Some(baseline(json!([deny(&all)]))),
            &[SERVER, OF_THREE],
        ),
        (
            "a baseline behind rules that decide",
            vec![admin("a", 5, json!([allow(&blue)]))],
            vec![],
            Some(baseline(json!([deny(&all)]))),
            &[SERVER, OF_THREE, HOST, OUTSIDE],
        ),
        (
            "what no rule is about goes on",
            vec![admin("a", 5, json!([allow(&red)]))],
            vec![network_policy(
                json!([{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]),
            )],
            Some(baseline(json!([deny(&all)]))),
            &[SERVER, CLIENT, OF_TWO, OUTSIDE],
        ),
        (
            "a rule that cannot be read denies all",
            vec![admin(
                "a",
                5,
                json!([allow(&red), {"action": "Pass", "from": [{}]}]),
            )],
            vec![],
            None,
            &[SERVER, CLIENT, OF_TWO],
        ),
    ];
    for (what, admin, policies, baseline, expected) in table {
        let cluster = with(&admin, &policies, baseline);
        assert_eq!(who(&cluster, PolicyType::Ingress), expected, "{what}");
        assert_eq!(
            who(&cluster, PolicyType::Egress),
            ALL,
            "{what}: the other way"
        );
    }
}

#[test]
fn who_is_no_subject_is_free() {
    let mut policy = admin("a", 5, json!([from("Deny", &json!({}))]));
    for (subject, held) in [
        (subject(), true),
        (json!({"namespaces": {}}), true),
        (json!({"namespaces": team("blue")}), false),
        (
            json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}}),
            false,
        ),
        (json!({}), false),
    ] {
        policy["spec"]["subject"] = subject.clone();
        let cluster = with(&[policy.clone()], &[], None);
        assert_eq!(
            passes(&cluster, CLIENT, SERVER, TCP, 80),
            !held,
            "{subject}"
        );
    }
    // In its node's network.
    policy["spec"]["subject"] = json!({"namespaces": {}});
    let cluster = with(&[policy], &[], None);
    assert!(passes(&cluster, CLIENT, HOST, TCP, 80));
}

#[test]
fn ports_are_taken_from_each_other() {
    let rule = |action: &str, ports: Value| {
        let mut rule = from(action, &json!({}));
        if !ports.is_null() {
            rule["ports"] = ports;
        }
        rule
    };
    let port =
        |protocol: &str, port: u16| json!({"portNumber": {"protocol": protocol, "port": port}});
    let range = |start: u16, end: u16| json!({"portRange": {"protocol": "TCP", "start": start, "end": end}});
    type Case = (&'static str, Value, &'static [(u8, u16, bool)]);
    let table: [Case; 6] = [
        (
            "all but one",
            json!([rule("Deny", json!([port("TCP", 80)]))]),
            &[
                (TCP, 79, true),
                (TCP, 80, false),
                (TCP, 81, true),
                (TCP, 65_535, true),
                (UDP, 80, true),
                (SCTP, 80, true),
                (ICMP, 0, true),
                // A fragment of whose ports nothing is known.
                (TCP, 0, false),
                (UDP, 0, true),
            ],
        ),
        (
            "one, and nothing else",
            json!([
                rule("Allow", json!([port("UDP", 53)])),
                rule("Deny", Value::Null)
            ]),
            &[
                (UDP, 53, true),
                (UDP, 54, false),
                (TCP, 53, false),
                (ICMP, 0, false),
            ],
        ),
        (
            "a hole in a range that is denied",
            json!([
                rule("Allow", json!([range(100, 110)])),
                rule("Deny", json!([range(50, 200)])),
            ]),
            &[
                (TCP, 49, true),
                (TCP, 50, false),
                (TCP, 99, false),
                (TCP, 100, true),
                (TCP, 110, true),
                (TCP, 111, false),
                (TCP, 200, false),
                (TCP, 201, true),
            ],
        ),
        (
            "part of a range passed on to no one",
            json!([
                rule("Pass", json!([range(100, 110)])),
                rule("Deny", json!([range(105, 200)])),
            ]),
            &[(TCP, 105, true), (TCP, 110, true), (TCP, 111, false)],
        ),
        (
            "a protocol as a whole",
            json!([rule("Deny", json!([range(1, 65_535)]))]),
            &[
                (TCP, 1, false),
                (TCP, 65_535, false),
                (UDP, 1, true),
                (ICMP, 0, true),
            ],
        ),
        (
            "a name, the server's",
            json!([rule(
                "Deny",
                json!([{"namedPort": "web"}, {"namedPort": "nobody's"}])
            )]),
            &[
                (TCP, 8080, false),
                (UDP, 8080, true),
                (TCP, 80, true),
                (ICMP, 0, true),
            ],
        ),
    ];
    for (what, rules, attempts) in table {
        let cluster = with(&[admin("a", 5, rules)], &[], None);
        for (protocol, port, expected) in attempts {
            let passes = passes(&cluster, CLIENT, SERVER, *protocol, *port);
            assert_eq!(passes, *expected, "{what}: {protocol} {port}");
        }
    }
}

/// Networks are pods' addresses as well, nodes are theirs alone, and names are those of
/// each pod that is spoken to.
#[test]
fn peers_outwards() {
    let to = |action: &str, peer: Value| json!({"action": action, "to": [peer]});
    let networks = |of: &[&str]| json!({"networks": of});
    let pods = |of: Value| json!({"namespaces": of});
    let table: Vec<(&str, Value, &[&str])> = vec![
        (
            "pods and whatever is in the network",
            json!([to("Deny", networks(&["10.1.0.2/31", "192.0.2.0/24"]))]),
            &[SERVER, OF_THREE, HOST],
        ),
        (
            "a network within one",
            json!([
                to("Allow", networks(&["10.1.0.3/32"])),
                to("Deny", networks(&["10.1.0.0/24"])),
            ]),
            &[SERVER, OF_TWO, HOST, OUTSIDE],
        ),
        (
            "one around it decides first",
            json!([
                to("Deny", networks(&["10.1.0.0/24"])),
                to("Allow", networks(&["10.1.0.3/32"])),
            ]),
            &[SERVER, HOST, OUTSIDE],
        ),
        (
            "pods that are passed on before a network",
            json!([
                to("Pass", pods(json!({}))),
                to("Deny", networks(&["0.0.0.0/0"])),
            ]),
            &[SERVER, CLIENT, OF_TWO, OF_THREE],
        ),
        (
            "a network before pods",
            json!([
                to("Allow", networks(&["10.1.0.2/32"])),
                to("Deny", pods(team("red"))),
            ]),
            &[SERVER, CLIENT, OF_THREE, HOST, OUTSIDE],
        ),
        (
            "nodes",
            json!([to("Deny", json!({"nodes": team("ops")}))]),
            &[SERVER, CLIENT, OF_TWO, OF_THREE, OUTSIDE],
        ),
        (
            "no nodes",
            json!([to("Deny", json!({"nodes": team("nobody's")}))]),
            &ALL,
        ),
        (
            "of another family",
            json!([to("Deny", networks(&["::/0"]))]),
            &ALL,
        ),
    ];
    for (what, rules, expected) in table {
        let mut cluster = with(&[outwards("a", 5, rules)], &[], None);
        let addresses = json!([{"type": "InternalIP", "address": HOST}]);
        let metadata = json!({"name": "here", "labels": {"team": "ops"}});
        let node = json!({"metadata": metadata, "status": {"addresses": addresses}});
        cluster.nodes = vec![read(node)];
        assert_eq!(who(&cluster, PolicyType::Egress), expected, "{what}");
        assert_eq!(
            who(&cluster, PolicyType::Ingress),
            ALL,
            "{what}: the other way"
        );
    }
    let named = json!({"action": "Deny", "to": [pods(json!({}))], "ports": [{"namedPort": "web"}]});
    let cluster = with(&[outwards("a", 5, json!([named]))], &[], None);
    for (to, port, expected) in [
        (CLIENT, 80, false),
        (CLIENT, 81, true),
        (OF_TWO, 81, false),
        (OF_TWO, 80, true),
        (HOST, 80, true),
        (OUTSIDE, 80, true),
    ] {
        assert_eq!(
            passes(&cluster, SERVER, to, TCP, port),
            expected,
            "{to} {port}"
        );
    }
}

/// Pods that only NetworkPolicies hold have plain sets as before, beside exact ones.
#[test]
fn only_subjects_have_exact_sets() {
    let mut isolated = network_policy(json!([{}]));
    isolated["spec"]["podSelector"] = json!({"matchLabels": {"app": "client"}});
    let deny = json!([from("Deny", &team("blue"))]);
    let cluster = with(&[admin("a", 5, deny)], &[isolated], None);
    let contents = cluster.contents(&Contents::default());
    let of = |text: &str| contents.pods[&ip(text)][PolicyType::Ingress as usize];
    assert_ne!(of(SERVER) & RuleSet::EXACT, 0);
    assert_eq!(of(CLIENT), 1);
    assert_eq!(of(OF_TWO), 0);
    // A baseline has no say over it.
    let mut more = cluster.clone();
    let mut denies = baseline(json!([from("Deny", &json!({}))]));
    denies["spec"]["subject"]["pods"]["podSelector"] = json!({"matchLabels": {"app": "client"}});
    more.baseline = Some(denies);
    assert_eq!(more.contents(&contents), contents);
}

#[test]
fn more_than_there_is_room_for_is_let_to_nobody() {
    let networks: Vec<String> = (0..=u16::MAX / 2)
        .map(|at| format!("172.16.{}.{}/32", at >> 8, at & 255))
        .collect();
    let deny = json!([{"action": "Deny", "to": [{"networks": networks}]}]);
    let cluster = with(&[outwards("a", 5, deny)], &[], None);
    assert_eq!(who(&cluster, PolicyType::Egress), [SERVER]);
}

#[test]
fn rules_are_told_by_their_names() {
    let mut dns = from("Allow", &team("red"));
    dns["name"] = json!("dns");
    dns["ports"] = json!([{"portNumber": {"protocol": "UDP", "port": 53}}]);
    let policy = admin("cluster", 7, json!([dns, from("Deny", &team("red"))]));
    let cluster = with(
        &[policy],
        &[],
        Some(baseline(json!([from("Deny", &json!({}))]))),
    );
    let wanted = compile(&cluster.world());
    let contents = number(&wanted, &Contents::default());
    let explained = explain(&wanted, &contents);
    let text = serde_json::to_string(&explained).unwrap();
    assert_eq!(explained, serde_json::from_str(&text).unwrap());
    let number = contents.pods[&ip(SERVER)][PolicyType::Ingress as usize];
    let set = explained.set(PolicyType::Ingress, number).unwrap();
    assert!(explained.set(PolicyType::Egress, number).is_none());
    let first = "rule 1 (dns) of AdminNetworkPolicy cluster, priority 7";
    let second = "rule 2 of AdminNetworkPolicy cluster, priority 7";
    let third = "rule 1 of BaselineAdminNetworkPolicy default";
    let order = [
        format!("Allow: {first}"),
        format!("Deny: {second}"),
        format!("Deny: {third}"),
    ];
    assert_eq!(set.order, order);
    let pod = |text: &str| Peer::identity(contents.identities[&ip(text)]);
    for (peer, protocol, port, by, lets) in [
        (pod(CLIENT), UDP, 53, first, true),
        (pod(CLIENT), UDP, 54, second, false),
        (pod(CLIENT), ICMP, 0, second, false),
        (pod(OF_THREE), TCP, 80, third, false),
        (Peer::ANY, TCP, 80, "no rule of any policy", true),
    ] {
        let why = set.why(peer, protocol, port).unwrap();
        assert_eq!(
            (why.by.as_str(), why.lets),
            (by, lets),
            "{peer:?} {protocol} {port}"
        );
    }
}

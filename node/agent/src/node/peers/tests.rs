use serde_json::{Value, json};

use super::*;

fn node<'a>(name: &str, cidrs: &[&str], ips: impl IntoIterator<Item = &'a str>) -> Node {
    let addresses: Vec<Value> = ips
        .into_iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip}))
        .collect();
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
        "status": {"addresses": addresses},
    }))
    .unwrap()
}

fn names(peers: &Peers) -> Vec<&str> {
    peers.known.keys().map(String::as_str).collect()
}

fn peers() -> Peers {
    Peers {
        own: "me".into(),
        ..Peers::default()
    }
}

fn list(peers: &mut Peers, nodes: &[Node]) -> bool {
    assert!(!peers.take(Event::Init));
    for node in nodes {
        assert!(!peers.take(Event::InitApply(node.clone())));
    }
    peers.take(Event::InitDone)
}

#[test]
fn a_peer_has_a_network_and_an_address() {
    let whole = node("a", &["10.244.1.0/24", "rubbish"], Some("172.30.0.3"));
    let want = Peer {
        name: "a".into(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        node_ips: vec!["172.30.0.3".parse().unwrap()],
    };
    assert_eq!(peer(&whole), Some(want.clone()));
    let dual = node(
        "a",
        &["10.244.1.0/24", "fd00:1::/64"],
        ["172.30.0.3", "fd00::3"],
    );
    let both = Peer {
        pod_cidrs: vec![want.pod_cidrs[0], "fd00:1::/64".parse().unwrap()],
        node_ips: vec![want.node_ips[0], "fd00::3".parse().unwrap()],
        ..want
    };
    assert_eq!(peer(&dual), Some(both));
    assert_eq!(peer(&node("a", &[], Some("172.30.0.3"))), None);
    assert_eq!(peer(&node("a", &["10.244.1.0/24"], None)), None);
    let old: Node = serde_json::from_value(json!({"spec": {"podCIDR": "10.244.7.0/24"}})).unwrap();
    assert_eq!(pod_cidrs(&old), ["10.244.7.0/24".parse::<IpNet>().unwrap()]);
}

#[test]
fn nothing_is_routed_before_all_are_known() {
    let mut peers = peers();
    let a = node("a", &["10.244.1.0/24"], Some("172.30.0.3"));
    assert!(!peers.take(Event::Init));
    assert!(!peers.take(Event::InitApply(a.clone())));
    assert!(!peers.take(Event::InitApply(node(
        "me",
        &["10.244.0.0/24"],
        Some("172.30.0.2")
    ))));
    assert_eq!(names(&peers), [] as [&str; 0]);
    assert!(peers.take(Event::InitDone));
    assert_eq!(names(&peers), ["a"]);
}

#[test]
fn only_what_matters_for_routes_is_a_change() {
    let mut peers = peers();
    let mut a = node("a", &["10.244.1.0/24"], Some("172.30.0.3"));
    // Even a list of nothing is worth telling: routes may be left over.
    assert!(list(&mut peers, &[]));
    assert!(peers.take(Event::Apply(a.clone())));
    a.metadata.labels = Some([("x".to_owned(), "y".to_owned())].into());
    assert!(!peers.take(Event::Apply(a.clone())));
    assert!(!peers.take(Event::Apply(node(
        "me",
        &["10.244.0.0/24"],
        Some("172.30.0.2")
    ))));
    assert!(peers.take(Event::Apply(node(
        "a",
        &["10.244.1.0/24"],
        Some("172.30.0.9")
    ))));
    assert!(!peers.take(Event::Apply(node("b", &[], None))));
    assert!(peers.take(Event::Apply(node(
        "b",
        &["10.244.2.0/24"],
        Some("172.30.0.4")
    ))));
    assert_eq!(names(&peers), ["a", "b"]);
    assert!(peers.take(Event::Delete(node("b", &[], None))));
    assert!(!peers.take(Event::Delete(node("b", &[], None))));
    // A watch that started anew and found the same.
    assert!(!list(
        &mut peers,
        &[node("a", &["10.244.1.0/24"], Some("172.30.0.9"))]
    ));
    assert!(list(&mut peers, &[]));
    assert_eq!(names(&peers), [] as [&str; 0]);
}

#[test]
fn what_another_node_had_first_is_not_routed_to_a_second() {
    let at = |second: i64, node: Node| {
        let mut node = node;
        let since = jiff::Timestamp::from_second(second).unwrap();
        node.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since));
        node
    };
    let mut peers = peers();
    let me = at(2, node("me", &["10.244.0.0/24"], Some("172.30.0.2")));
    let ghost = at(3, node("ghost", &["10.244.0.0/16"], Some("172.30.0.2")));
    assert!(list(&mut peers, &[ghost, me.clone()]));
    let (routed, conflicts) = peers.settled();
    assert_eq!((routed.len(), conflicts.len()), (0, 2));
    assert!(conflicts.iter().all(|conflict| conflict.second == "ghost"));
    // A status that says the same of this node is no change, another range of its pods is one.
    assert!(!peers.take(Event::Apply(me)));
    let elsewhere = at(2, node("me", &["10.245.0.0/24"], Some("172.30.0.3")));
    assert!(peers.take(Event::Apply(elsewhere)));
    let (routed, conflicts) = peers.settled();
    assert_eq!((routed.len(), conflicts.len()), (1, 0));
}

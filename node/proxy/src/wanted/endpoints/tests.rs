use super::*;
use crate::wanted::slice::{Endpoint, Port};

/// `3 ready local zone=a zone=b node=this` is 10.0.0.3.
fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let mut endpoint = Endpoint {
        addr: format!("10.0.0.{}", words.next().unwrap()).parse().unwrap(),
        state: State::Down,
        local: false,
        node_hint: NodeHint::None,
        zones: Box::default(),
    };
    let mut zones = Vec::new();
    for word in words {
        match word.split_once('=') {
            None if word == "ready" => endpoint.state = State::Ready,
            None if word == "draining" => endpoint.state = State::Draining,
            None if word == "serving" => endpoint.state = State::Serving,
            None if word == "down" => endpoint.state = State::Down,
            None if word == "local" => endpoint.local = true,
            Some(("zone", zone)) => zones.push(zone.into()),
            Some(("node", "this")) => endpoint.node_hint = NodeHint::ThisNode,
            Some(("node", _)) => endpoint.node_hint = NodeHint::OtherNodes,
            _ => panic!("{word}"),
        }
    }
    endpoint.zones = zones.into();
    endpoint
}

fn slice(endpoints: &[&str]) -> Slice {
    Slice {
        ports: [Port {
            name: "".into(),
            protocol: Protocol::Tcp,
            number: 80,
        }]
        .into(),
        endpoints: endpoints.iter().map(|text| endpoint(text)).collect(),
        ..Slice::default()
    }
}

fn weighing(weight: &str, endpoints: &[&str]) -> Slice {
    Slice {
        weight: weight.parse().unwrap(),
        ..slice(endpoints)
    }
}

/// The last numbers of the addresses.
fn numbers(backends: &[Backend]) -> String {
    let number = |backend: &Backend| backend.addr.to_string().split_off("10.0.0.".len());
    backends.iter().map(number).collect::<Vec<_>>().join(" ")
}

const BOTH: Needs = Needs {
    cluster: true,
    local: true,
    serving: false,
};
const CLUSTER: Needs = Needs {
    local: false,
    ..BOTH
};
const LOCAL: Needs = Needs {
    cluster: false,
    ..BOTH
};

/// This node is in zone a.
fn check(case: &str, slices: &[Slice], needs: Needs, cluster: &str, local: &str) {
    let candidates = candidates("", Protocol::Tcp, Family::V4, slices.iter());
    let lists = choose(&candidates, Some("a"), needs);
    let found = (numbers(&lists.cluster), numbers(&lists.local));
    assert_eq!(found, (cluster.to_owned(), local.to_owned()), "{case}");
}

#[test]
fn endpoints_are_ready_or_else_draining_in_each_list_for_itself() {
    let table: &[(&str, &[&str], Needs, &str, &str)] = &[
        ("none", &[], BOTH, "", ""),
        ("ready", &["1 ready", "2 ready local"], BOTH, "1 2", "2"),
        (
            "nobody asks for the node's own",
            &["1 ready local"],
            CLUSTER,
            "1",
            "",
        ),
        ("one is down", &["1 ready", "2 down local"], BOTH, "1", ""),
        (
            "one drains",
            &["1 ready local", "2 draining local"],
            BOTH,
            "1",
            "1",
        ),
        (
            "all drain",
            &["1 draining local", "2 draining"],
            BOTH,
            "1 2",
            "1",
        ),
        (
            "serving alone is for nobody",
            &["1 serving local", "2 down"],
            BOTH,
            "",
            "",
        ),
        (
            "ready elsewhere, draining here",
            &["1 ready", "2 draining local", "3 draining", "4 down local"],
            BOTH,
            "1",
            "2",
        ),
        ("all elsewhere", &["1 ready", "2 ready"], BOTH, "1 2", ""),
        (
            "all elsewhere and draining",
            &["1 draining", "2 draining"],
            BOTH,
            "1 2",
            "",
        ),
        (
            "Local alone: one says that there are others",
            &["1 ready", "2 ready", "3 ready local"],
            LOCAL,
            "1",
            "3",
        ),
        (
            "Local alone, none here",
            &["2 ready", "3 ready"],
            LOCAL,
            "2",
            "",
        ),
        (
            "Local alone, none here, all draining",
            &["2 down", "3 draining"],
            LOCAL,
            "3",
            "",
        ),
        (
            "Local alone, none anywhere",
            &["1 down local", "2 serving"],
            LOCAL,
            "",
            "",
        ),
    ];
    for (case, endpoints, needs, cluster, local) in table {
        check(case, &[slice(endpoints)], *needs, cluster, local);
    }
}

#[test]
fn hints_choose_among_the_ready_of_the_cluster() {
    let table: &[(&str, &[&str], &str, &str)] = &[
        (
            "zone",
            &["1 ready zone=a", "2 ready zone=b", "3 ready zone=a"],
            "1 3",
            "",
        ),
        (
            "of several zones",
            &["1 ready zone=b zone=a", "2 ready zone=b zone=c"],
            "1",
            "",
        ),
        (
            "one has no hint",
            &["1 ready zone=a", "2 ready zone=b", "3 ready"],
            "1 2 3",
            "",
        ),
        (
            "none for this zone",
            &["1 ready zone=b", "2 ready zone=c"],
            "1 2",
            "",
        ),
        (
            "down ones have no say",
            &["1 ready zone=a", "2 ready zone=b", "3 down"],
            "1",
            "",
        ),
        (
            "nor draining ones",
            &["1 ready zone=b", "2 draining zone=a", "3 draining"],
            "1",
            "",
        ),
        (
            "none is ready here",
            &["1 down zone=a", "2 ready zone=b"],
            "2",
            "",
        ),
        (
            "none is ready",
            &["1 draining zone=a", "2 draining zone=b"],
            "1 2",
            "",
        ),
        (
            "not for the node's own",
            &[
                "1 ready local zone=a",
                "2 ready local zone=b",
                "3 ready zone=b",
            ],
            "1",
            "1 2",
        ),
        (
            "node",
            &[
                "1 ready node=this",
                "2 ready node=other",
                "3 ready node=this",
            ],
            "1 3",
            "",
        ),
        (
            "hinted to is not running on",
            &["1 ready node=this", "2 ready local node=other"],
            "1",
            "2",
        ),
        (
            "one has no hint for nodes",
            &["1 ready node=this", "2 ready"],
            "1 2",
            "",
        ),
        (
            "nodes before zones",
            &["1 ready node=this zone=b", "2 ready node=other zone=a"],
            "1",
            "",
        ),
        (
            "no node: zones",
            &["1 ready node=other zone=b", "2 ready node=other zone=a"],
            "2",
            "",
        ),
        (
            "not all have nodes: zones",
            &["1 ready node=this zone=b", "2 ready zone=a"],
            "2",
            "",
        ),
    ];
    for (case, endpoints, cluster, local) in table {
        check(case, &[slice(endpoints)], BOTH, cluster, local);
    }
    let slices = [slice(&["1 ready zone=a", "2 ready zone=b"])];
    let candidates = candidates("", Protocol::Tcp, Family::V4, slices.iter());
    let lists = choose(&candidates, None, BOTH);
    assert_eq!(numbers(&lists.cluster), "1 2", "a node without a zone");
}

#[test]
fn an_endpoint_in_two_slices_is_one_and_the_better() {
    let first = slice(&["1 down", "2 ready", "3 ready zone=a"]);
    let second = slice(&["1 ready local", "2 draining local", "3 ready"]);
    check("two slices", &[first, second], BOTH, "1 2 3", "1 2");
}

#[test]
fn whoever_serves_keeps_its_clients() {
    let slices = [slice(&["1 ready", "2 draining", "3 serving", "4 down"])];
    let candidates = candidates("", Protocol::Tcp, Family::V4, slices.iter());
    let serving = |serving| {
        let lists = choose(&candidates, None, Needs { serving, ..CLUSTER });
        numbers(&lists.serving)
    };
    assert_eq!(serving(true), "1 2 3");
    assert_eq!(serving(false), "");
}

#[test]
fn weights_are_turns_in_both_lists() {
    let heavy = ["1 ready", "2 ready local"];
    let slices = [weighing("30", &heavy), weighing("10", &["3 ready local"])];
    check("3 to 1", &slices, BOTH, "1 1 1 2 2 2 3", "2 2 2 3");
    let equal = [weighing("7", &heavy), weighing("7", &["3 ready"])];
    check("all weigh the same", &equal, BOTH, "1 2 3", "2");
    let other = [slice(&heavy), weighing("2", &["3 draining"])];
    check("of those that get clients", &other, BOTH, "1 2", "2");
    let fallback = [slice(&["1 draining"]), weighing("2", &["2 draining"])];
    check("draining ones", &fallback, BOTH, "1 2 2", "");
    let twice = [slice(&["1 ready"]), weighing("3", &["1 ready", "2 ready"])];
    check("one in two slices", &twice, BOTH, "1 2", "");
    let candidates = candidates("", Protocol::Tcp, Family::V4, slices.iter());
    let needs = Needs {
        serving: true,
        ..LOCAL
    };
    let lists = choose(&candidates, None, needs);
    assert_eq!(numbers(&lists.serving), "1 2 3", "each once");
    assert_eq!(numbers(&lists.cluster), "1", "nobody is sent there");
}

use k8s_openapi::api::{core, discovery};
use serde_json::{Value, json};

use super::*;
use crate::model::Backend;

mod reference;

const NODE: &str = "here";

fn service(metadata: Value, spec: Value) -> Service {
    let mut object = json!({
        "metadata": metadata,
        "spec": {
            "clusterIPs": ["10.96.0.10"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]
        }
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    let service = serde_json::from_value::<core::v1::Service>(object).unwrap();
    Service::read(&service, None)
}

fn web(spec: Value) -> Service {
    service(json!({"name": "web"}), spec)
}

fn slice(family: &str, ports: Value, endpoints: Value) -> Slice {
    let object = json!({
        "metadata": {"name": "web-1"}, "addressType": family, "ports": ports, "endpoints": endpoints
    });
    let slice = serde_json::from_value::<discovery::v1::EndpointSlice>(object).unwrap();
    Slice::read(&slice, NODE)
}

fn web_slice(endpoints: Value) -> Slice {
    let ports = json!([{"name": "", "port": 8080, "protocol": "TCP"}]);
    slice("IPv4", ports, endpoints)
}

fn ready(addresses: &[&str]) -> Value {
    let endpoint = |addr: &&str| json!({"addresses": [addr]});
    json!(addresses.iter().map(endpoint).collect::<Vec<_>>())
}

fn names<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    names.join(" ")
}

/// Reads as `10.96.0.10:80/TCP -> 10.244.1.2:8080 10.244.1.3:8080`.
fn table(service: &Service, slices: &[Slice]) -> Vec<String> {
    wanted(service, slices.iter(), None)
        .ports
        .iter()
        .map(|port| {
            let backends = names(&port.target.cluster);
            format!("{} -> {backends}", names(port.frontends.keys()))
        })
        .collect()
}

fn target(service: &Service, slices: &[Slice]) -> Target {
    let mut wanted = wanted(service, slices.iter(), None);
    assert_eq!(wanted.ports.len(), 1);
    wanted.ports.remove(0).target
}

#[test]
fn endpoint_conditions_decide_as_kube_proxy_does() {
    let (yes, no) = (Some(true), Some(false));
    let both = "10.244.1.1:8080 10.244.1.2:8080";
    let second = "10.244.1.2:8080";
    // Ready, serving, terminating of the first; the second of the two drains.
    for (case, [ready, serving, terminating], expected) in [
        ("ready", [yes, yes, no], "10.244.1.1:8080"),
        ("unset means ready", [None; 3], "10.244.1.1:8080"),
        ("not ready", [no, no, no], second),
        ("draining", [no, yes, yes], both),
        ("unset means serving", [no, None, yes], both),
        ("done serving", [no, no, yes], second),
        ("serving, and stays", [no, yes, no], second),
        (
            "published though not ready",
            [yes, no, no],
            "10.244.1.1:8080",
        ),
        ("published to the end", [yes, no, yes], "10.244.1.1:8080"),
    ] {
        let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
        let draining = json!({"ready": false, "serving": true, "terminating": true});
        let slices = [web_slice(json!([
            {"addresses": ["10.244.1.1"], "conditions": conditions},
            {"addresses": ["10.244.1.2"], "conditions": draining}
        ]))];
        assert_eq!(
            table(&web(json!({})), &slices),
            [format!("10.96.0.10:80/TCP -> {expected}")],
            "{case}"
        );
    }
}

#[test]
fn ports_match_by_name_and_protocol() {
    let dns = web(json!({"ports": [
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"}
    ]}));
    let ports = json!([
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
        {"name": "metrics", "port": null, "protocol": "TCP"},
        {"name": "metrics", "port": 9, "protocol": "UDP"}
    ]);
    let endpoints = json!([{"addresses": ["10.244.1.1", "10.244.9.9"]}]);
    let expected = [
        "10.96.0.10:53/UDP -> 10.244.1.1:5353",
        "10.96.0.10:53/TCP -> 10.244.1.1:5354",
        "10.96.0.10:9153/TCP -> ",
    ];
    assert_eq!(table(&dns, &[slice("IPv4", ports, endpoints)]), expected);
}

#[test]
fn slices_add_up_without_duplicates_whatever_their_ports() {
    let other = |port: u16| slice("IPv4", json!([{"port": port}]), ready(&["10.244.1.1"]));
    let slices = [
        web_slice(ready(&["10.244.1.1"])),
        other(8080),
        other(8081),
        slice("FQDN", json!([{"port": 8080}]), ready(&["web.example.org"])),
        slice("IPv4", json!([{"port": 8080}]), ready(&["fd00::1"])),
    ];
    assert_eq!(
        table(&web(json!({})), &slices),
        ["10.96.0.10:80/TCP -> 10.244.1.1:8080 10.244.1.1:8081"]
    );
}

#[test]
fn each_family_has_its_own_backends() {
    let dual = web(json!({
        "type": "NodePort", "clusterIPs": ["fd00::a", "10.96.0.10"],
        "ports": [{"port": 80, "nodePort": 30080}, {"name": "s", "port": 443}]
    }));
    let six = slice("IPv6", json!([{"port": 8080}]), ready(&["fd00:1::1"]));
    assert_eq!(
        table(&dual, &[six.clone(), web_slice(ready(&["10.244.1.1"]))]),
        [
            "0.0.0.0:30080/TCP 10.96.0.10:80/TCP -> 10.244.1.1:8080",
            "[::]:30080/TCP [fd00::a]:80/TCP -> [fd00:1::1]:8080",
            "10.96.0.10:443/TCP -> ",
            "[fd00::a]:443/TCP -> ",
        ]
    );
    assert_eq!(
        table(&web(json!({})), &[six]),
        ["10.96.0.10:80/TCP -> "],
        "not of its family"
    );
}

#[test]
fn policies_ask_for_their_lists() {
    let slices = [web_slice(json!([
        {"addresses": ["10.244.1.1"], "nodeName": "there"},
        {"addresses": ["10.244.1.2"], "nodeName": NODE},
        {"addresses": ["10.244.1.3"]}
    ]))];
    let all = "10.244.1.1:8080 10.244.1.2:8080 10.244.1.3:8080";
    let own = "10.244.1.2:8080";
    let any = "10.244.1.1:8080";
    // The policies, as asked for and as they count.
    for (type_, internal, external, cluster, local, flags) in [
        ("ClusterIP", "Cluster", "Cluster", all, "", [false, false]),
        ("ClusterIP", "Cluster", "Local", all, "", [false, false]),
        ("ClusterIP", "Local", "Local", any, own, [true, false]),
        ("NodePort", "Cluster", "Cluster", all, "", [false, false]),
        ("NodePort", "Cluster", "Local", all, own, [false, true]),
        ("NodePort", "Local", "Cluster", all, own, [true, false]),
        ("NodePort", "Local", "Local", all, own, [true, true]),
    ] {
        let service = web(json!({
            "type": type_, "ports": [{"port": 80, "nodePort": 30080}],
            "internalTrafficPolicy": internal, "externalTrafficPolicy": external
        }));
        let target = target(&service, &slices);
        let case = format!("{type_} {internal} {external}");
        assert_eq!(names(&target.cluster), cluster, "{case}");
        assert_eq!(names(&target.local), local, "{case}");
        assert_eq!(
            [target.internal_local, target.external_local],
            flags,
            "{case}"
        );
    }
}

#[test]
fn whoever_may_keep_a_backend_is_told_which_serve() {
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    let endpoints = json!([
        {"addresses": ["10.244.1.1"], "conditions": conditions}, {"addresses": ["10.244.1.2"]}
    ]);
    let both = "10.244.1.1:8080 10.244.1.2:8080";
    for (protocol, affinity, expected) in [
        ("TCP", "None", ""),
        ("TCP", "ClientIP", both),
        ("UDP", "None", both),
        ("UDP", "ClientIP", both),
    ] {
        let service = web(json!({
            "ports": [{"port": 80, "protocol": protocol}], "sessionAffinity": affinity
        }));
        let ports = json!([{"port": 8080, "protocol": protocol}]);
        let target = target(&service, &[slice("IPv4", ports, endpoints.clone())]);
        let case = format!("{protocol} {affinity}");
        assert_eq!(names(&target.serving), expected, "{case}");
        assert_eq!(names(&target.cluster), "10.244.1.2:8080", "{case}");
        let affinity = (affinity == "ClientIP").then_some(10_800);
        assert_eq!(target.affinity, affinity, "{case}");
    }
}

#[test]
fn source_ranges_go_with_the_addresses_they_hold_for() {
    let spec = json!({
        "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"]
    });
    assert!(target(&web(spec.clone()), &[]).source_ranges.is_empty());
    let object = json!({
        "spec": {
            "type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
            "clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    });
    let service = Service::read(&serde_json::from_value(object).unwrap(), None);
    assert_eq!(names(target(&service, &[]).source_ranges), "10.0.0.0/8");
}

#[test]
fn maglev_makes_tables_of_the_lists() {
    let metadata = json!({"annotations": {"vetch.dev/balance": "maglev"}});
    let service = service(
        metadata,
        json!({
            "internalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP"
        }),
    );
    let endpoints = json!([
        {"addresses": ["10.244.1.1"], "nodeName": "there"},
        {"addresses": ["10.244.1.2"], "nodeName": NODE}
    ]);
    let target = target(&service, &[web_slice(endpoints)]);
    assert_eq!(target.balance, Balance::Maglev);
    let share = |addr: &str| {
        let addr: IpAddr = addr.parse().unwrap();
        let places = target.cluster.iter().filter(|backend| backend.addr == addr);
        places.count()
    };
    assert_eq!([share("10.244.1.1"), share("10.244.1.2")], [126, 125]);
    assert_eq!(names(&target.local), "10.244.1.2:8080");
    assert_eq!(target.serving.len(), 2, "not a table");
}

#[test]
fn a_slice_weighs_what_its_annotation_says() {
    let weighing = |weight: Option<&str>, addr: &str| {
        let annotations = weight.map(|weight| json!({"vetch.dev/weight": weight}));
        let object = json!({
            "metadata": {"name": "web-1", "annotations": annotations}, "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [addr]}]
        });
        Slice::read(&serde_json::from_value(object).unwrap(), NODE)
    };
    let (a, b) = ("10.244.1.1", "10.244.1.2");
    for (weight, turns, problem) in [
        (None, 1, None),
        (Some("1"), 1, None),
        (Some("3"), 3, None),
        (Some("0"), 1, Some("0")),
        (Some("heavy"), 1, Some("heavy")),
    ] {
        let slices = [weighing(None, a), weighing(weight, b)];
        let service = web(json!({}));
        let wanted = wanted(&service, slices.iter(), None);
        let cluster = &wanted.ports[0].target.cluster;
        let count = |addr: &str| {
            let addr: IpAddr = addr.parse().unwrap();
            let turns = cluster.iter().filter(|backend| backend.addr == addr);
            turns.count()
        };
        assert_eq!((count(a), count(b)), (1, turns), "{weight:?}");
        let problem = problem.map(|text| Problem::Weight(text.to_owned()));
        assert_eq!(wanted.problems, problem.into_iter().collect(), "{weight:?}");
    }
    // Who is not served here has nothing to be told.
    let other = service(json!({"name": "web"}), json!({"type": "ExternalName"}));
    let slices = [weighing(Some("0"), a)];
    assert_eq!(wanted(&other, slices.iter(), None), Wanted::default());
}

#[test]
fn least_asks_for_every_endpoint_that_may_have_connections() {
    let metadata = json!({"annotations": {"vetch.dev/balance": "least"}});
    let endpoints = json!([
        {"addresses": ["10.244.1.1"]},
        {"addresses": ["10.244.1.2"], "conditions": {"ready": false, "serving": true, "terminating": true}}
    ]);
    let slices = [web_slice(endpoints)];
    let least = target(&service(metadata, json!({})), &slices);
    assert_eq!(least.balance, Balance::Least);
    assert_eq!(names(&least.cluster), "10.244.1.1:8080");
    assert_eq!(names(&least.serving), "10.244.1.1:8080 10.244.1.2:8080");
    assert_eq!(target(&web(json!({})), &slices).serving, []);
}

/// 9999 is dialled, as is the node port 30999; the slices lead to `ports`.
#[test]
fn sctp_is_served_where_no_port_changes() {
    let cluster_ip = "10.96.0.10:9999/SCTP";
    let node_port = "0.0.0.0:30999/SCTP";
    let sctp = |ports: &[u16]| -> Vec<Slice> {
        let port = |port: &u16| json!([{"port": port, "protocol": "SCTP"}]);
        let slice = |ports| slice("IPv4", ports, ready(&["10.244.1.1"]));
        ports.iter().map(port).map(slice).collect()
    };
    for (case, type_, target, ports, expected, problems) in [
        (
            "same",
            "ClusterIP",
            json!(null),
            &[9999][..],
            vec![format!("{cluster_ip} -> 10.244.1.1:9999")],
            &[][..],
        ),
        (
            "other",
            "ClusterIP",
            json!(8888),
            &[8888],
            vec![],
            &[(9999, 8888)],
        ),
        (
            "other, no endpoint yet",
            "ClusterIP",
            json!(8888),
            &[],
            vec![],
            &[(9999, 8888)],
        ),
        (
            "named, no endpoint yet",
            "ClusterIP",
            json!("sctp"),
            &[],
            vec![format!("{cluster_ip} -> ")],
            &[],
        ),
        (
            "named, same",
            "ClusterIP",
            json!("sctp"),
            &[9999],
            vec![format!("{cluster_ip} -> 10.244.1.1:9999")],
            &[],
        ),
        (
            "named, some are the same",
            "ClusterIP",
            json!("sctp"),
            &[8888, 9999],
            vec![format!("{cluster_ip} -> 10.244.1.1:9999")],
            &[(9999, 8888)],
        ),
        (
            "slices have the last word",
            "ClusterIP",
            json!(8888),
            &[9999],
            vec![format!("{cluster_ip} -> 10.244.1.1:9999")],
            &[],
        ),
        (
            "a node port is another port",
            "NodePort",
            json!(9999),
            &[9999],
            vec![format!("{cluster_ip} -> 10.244.1.1:9999")],
            &[(30999, 9999)],
        ),
        (
            "unless it is the same",
            "NodePort",
            json!(30999),
            &[30999],
            vec![format!("{node_port} -> 10.244.1.1:30999")],
            &[(9999, 30999)],
        ),
    ] {
        let service = web(json!({"type": type_, "ports": [
            {"port": 9999, "protocol": "SCTP", "targetPort": target, "nodePort": 30999}
        ]}));
        let slices = sctp(ports);
        assert_eq!(table(&service, &slices), expected, "{case}");
        let problem = |(port, target): &(u16, u16)| Problem::SctpPort {
            port: *port,
            target: *target,
        };
        let expected: BTreeSet<Problem> = problems.iter().map(problem).collect();
        assert_eq!(
            wanted(&service, slices.iter(), None).problems,
            expected,
            "{case}"
        );
    }
}

#[test]
fn a_problem_reads_as_a_sentence() {
    let problem = Problem::SctpPort {
        port: 9999,
        target: 8888,
    };
    assert_eq!(
        problem.to_string(),
        "SCTP port 9999 leads to port 8888 of endpoints; SCTP is served only where both are the same"
    );
    assert_eq!(problem.reason(), "SctpPortNotServed");
}

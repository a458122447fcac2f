use serde_json::{Value, json};

use super::*;

fn read(type_: &str, extra: Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "annotations": extra["annotations"]},
        "spec": {
            "type": type_, "clusterIPs": ["10.96.0.10"],
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080}]
        },
        "status": extra["status"]
    });
    for (key, value) in extra["spec"].as_object().into_iter().flatten() {
        service["spec"][key] = value.clone();
    }
    Service::read(&serde_json::from_value(service).unwrap(), None)
}

fn balancer(extra: Value, ranges: &[&str]) -> Service {
    let ingress = json!([{"ip": "192.0.2.9"}, {"ip": "2001:db8::9"}]);
    read(
        "LoadBalancer",
        json!({
            "annotations": extra["annotations"],
            "spec": {
                "clusterIPs": ["10.96.0.10", "fd00::a"],
                "loadBalancerSourceRanges": ranges
            },
            "status": {"loadBalancer": {"ingress": ingress}}
        }),
    )
}

/// `external` and `restricted` are what makes an exposure.
fn frontends(service: &Service) -> Vec<String> {
    let mut lines = Vec::new();
    for port in &service.ports {
        for family in service.families() {
            for (frontend, exposure) in service.frontends(port, family) {
                let external = if exposure.external { " external" } else { "" };
                let restricted = if exposure.source_ranges {
                    " restricted"
                } else {
                    ""
                };
                lines.push(format!("{frontend}{external}{restricted}"));
            }
        }
    }
    lines
}

#[test]
fn addresses_by_type_and_family() {
    let table: &[(&str, &str, Value, &[&str])] = &[
        (
            "the API server keeps a node port, the type says whether it counts",
            "ClusterIP",
            json!({}),
            &["10.96.0.10:80/TCP"],
        ),
        (
            "dual-stack",
            "ClusterIP",
            json!({"spec": {"clusterIPs": ["fd00::a", "10.96.0.10"]}}),
            &["10.96.0.10:80/TCP", "[fd00::a]:80/TCP"],
        ),
        (
            "IPv6 alone",
            "NodePort",
            json!({"spec": {"clusterIPs": ["fd00::a"]}}),
            &["[::]:30080/TCP external", "[fd00::a]:80/TCP"],
        ),
        (
            "node port, dual-stack",
            "NodePort",
            json!({"spec": {"clusterIPs": ["10.96.0.10", "fd00::a"]}}),
            &[
                "0.0.0.0:30080/TCP external",
                "10.96.0.10:80/TCP",
                "[::]:30080/TCP external",
                "[fd00::a]:80/TCP",
            ],
        ),
        (
            "external IPs of any type, of the service's families only",
            "ClusterIP",
            json!({"spec": {"externalIPs": ["192.0.2.1", "2001:db8::1", ""]}}),
            &["10.96.0.10:80/TCP", "192.0.2.1:80/TCP external"],
        ),
        (
            "no node ports allocated",
            "LoadBalancer",
            json!({
                "spec": {"allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
            }),
            &["10.96.0.10:80/TCP", "192.0.2.9:80/TCP external"],
        ),
        (
            "only addresses that reach us as they were dialled",
            "LoadBalancer",
            json!({"status": {"loadBalancer": {"ingress": [
                {"ip": "192.0.2.9"}, {"ip": "192.0.2.10", "ipMode": "VIP"},
                {"ip": "192.0.2.11", "ipMode": "Proxy"}, {"hostname": "lb.example.org"},
                {"ip": "2001:db8::9"}
            ]}}}),
            &[
                "0.0.0.0:30080/TCP external",
                "10.96.0.10:80/TCP",
                "192.0.2.9:80/TCP external",
                "192.0.2.10:80/TCP external",
            ],
        ),
        (
            "a status that another type left",
            "NodePort",
            json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}),
            &["0.0.0.0:30080/TCP external", "10.96.0.10:80/TCP"],
        ),
        (
            "a cluster IP stays one whatever else it is",
            "LoadBalancer",
            json!({
                "spec": {"externalIPs": ["10.96.0.10"], "ports": [{"port": 80}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "10.96.0.10"}]}}
            }),
            &["10.96.0.10:80/TCP"],
        ),
        (
            "protocols",
            "ClusterIP",
            json!({"spec": {"ports": [
                {"port": 1}, {"port": 2, "protocol": "UDP"}, {"port": 3, "protocol": "SCTP"},
                {"port": 4, "protocol": "QUIC"}, {"port": 0}, {"port": 65536}
            ]}}),
            &["10.96.0.10:1/TCP", "10.96.0.10:2/UDP", "10.96.0.10:3/SCTP"],
        ),
    ];
    for (case, type_, extra, expected) in table {
        let service = read(type_, extra.clone());
        assert_eq!(frontends(&service), *expected, "{case}");
        assert!(service.problems.is_empty(), "{case}");
    }
}

#[test]
fn an_address_that_would_shadow_the_node_is_refused() {
    let service = read(
        "LoadBalancer",
        json!({
            "spec": {"externalIPs": ["0.0.0.0", "127.0.0.1", "web", "::ffff:192.0.2.1"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "224.0.0.1"}]}}
        }),
    );
    assert_eq!(
        frontends(&service),
        [
            "0.0.0.0:30080/TCP external",
            "10.96.0.10:80/TCP",
            "192.0.2.1:80/TCP external"
        ]
    );
    let refused = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "web"];
    assert_eq!(
        service.problems,
        BTreeSet::from(refused.map(|addr| Problem::Address(addr.to_owned())))
    );
}

#[test]
fn what_is_not_ours_has_nothing() {
    let labels = |name: Option<&str>| match name {
        None => json!({"app": "web"}),
        Some(name) => json!({"app": "web", "service.kubernetes.io/service-proxy-name": name}),
    };
    for (label, ours, served) in [
        (None, None, true),
        (None, Some("vetch"), false),
        (Some("vetch"), None, false),
        (Some("vetch"), Some("vetch"), true),
        (Some("other"), Some("vetch"), false),
        (Some(""), None, false),
    ] {
        let service = json!({
            "metadata": {"name": "web", "labels": labels(label)},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}
        });
        let service = Service::read(&serde_json::from_value(service).unwrap(), ours);
        assert_eq!(
            !frontends(&service).is_empty(),
            served,
            "{label:?} {ours:?}"
        );
    }
    let external = json!(["192.0.2.1"]);
    for (type_, spec) in [
        (
            "ClusterIP",
            json!({"clusterIPs": ["None"], "externalIPs": external}),
        ),
        (
            "ClusterIP",
            json!({"clusterIPs": [], "externalIPs": external}),
        ),
        ("ExternalName", json!({"externalIPs": external})),
    ] {
        let service = read(type_, json!({"spec": spec}));
        assert_eq!(service, Service::default(), "{type_} {spec}");
    }
}

#[test]
fn source_ranges_by_family() {
    let annotation = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let none = json!({});
    let all = "";
    let nobody = "nobody";
    // The ranges of IPv4 and of IPv6.
    let table = [
        ("none", none.clone(), &[][..], all, all),
        (
            "both",
            none.clone(),
            &["10.0.0.0/8", "fd00::/8"],
            "10.0.0.0/8",
            "fd00::/8",
        ),
        (
            "the other family stays open",
            none.clone(),
            &["10.0.0.0/8"],
            "10.0.0.0/8",
            all,
        ),
        (
            "sorted, trimmed, without host bits and duplicates",
            none.clone(),
            &[" 172.16.0.1/12", "10.1.2.3/8 ", "10.0.0.0/8", ""],
            "10.0.0.0/8 172.16.0.0/12",
            all,
        ),
        (
            "everybody, in one family",
            none.clone(),
            &["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"],
            all,
            "fd00::/8",
        ),
        (
            "a zero prefix by any name",
            none.clone(),
            &["10.0.0.0/0"],
            all,
            all,
        ),
        (
            "what cannot be read lets nobody in",
            none.clone(),
            &["10.0.0.0/8", "10.0.0.0/33"],
            "10.0.0.0/8",
            all,
        ),
        (
            "nothing can be read",
            none.clone(),
            &["10.0.0.0"],
            nobody,
            nobody,
        ),
        (
            "annotation",
            json!({annotation: "10.0.0.0/8, 192.168.0.0/16"}),
            &[],
            "10.0.0.0/8 192.168.0.0/16",
            all,
        ),
        (
            "the field wins",
            json!({annotation: "10.0.0.0/8"}),
            &["172.16.0.0/12"],
            "172.16.0.0/12",
            all,
        ),
        (
            "an empty annotation",
            json!({annotation: " "}),
            &[],
            all,
            all,
        ),
    ];
    for (case, annotations, ranges, v4, v6) in table {
        let service = balancer(json!({"annotations": annotations}), ranges);
        for (family, vip, expected) in [
            (Family::V4, "192.0.2.9:80/TCP", v4),
            (Family::V6, "[2001:db8::9]:80/TCP", v6),
        ] {
            let found = service.source_ranges.get(&family).map(|ranges| {
                let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                ranges.join(" ")
            });
            let restricted = expected != all;
            let list = if expected == nobody { "" } else { expected };
            assert_eq!(found.as_deref(), restricted.then_some(list), "{case}");
            let exposure = if restricted {
                " external restricted"
            } else {
                " external"
            };
            let frontends = frontends(&service);
            assert!(frontends.contains(&format!("{vip}{exposure}")), "{case}");
            let others = frontends.iter().filter(|line| line.contains("restricted"));
            assert!(
                others
                    .into_iter()
                    .all(|line| line.contains("192.0.2.9") || line.contains("db8"))
            );
        }
    }
}

#[test]
fn ranges_hold_for_a_balancers_address_that_is_an_external_ip_too() {
    let service = read(
        "LoadBalancer",
        json!({
            "spec": {
                "externalIPs": ["192.0.2.9", "192.0.2.1"],
                "loadBalancerSourceRanges": ["10.0.0.0/8"], "ports": [{"port": 80}]
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
        }),
    );
    assert_eq!(
        frontends(&service),
        [
            "10.96.0.10:80/TCP",
            "192.0.2.1:80/TCP external",
            "192.0.2.9:80/TCP external restricted"
        ]
    );
}

#[test]
fn affinity_has_a_timeout() {
    let config = |seconds: Value| json!({"clientIP": {"timeoutSeconds": seconds}});
    for (affinity, config, expected) in [
        (json!(null), json!(null), None),
        (json!("None"), config(json!(60)), None),
        (json!("ClientIP"), config(json!(60)), Some(60)),
        (json!("ClientIP"), config(json!(null)), Some(10_800)),
        (json!("ClientIP"), config(json!(0)), Some(10_800)),
        (json!("ClientIP"), json!(null), Some(10_800)),
    ] {
        let spec = json!({"sessionAffinity": affinity, "sessionAffinityConfig": config});
        let service = read("ClusterIP", json!({ "spec": spec }));
        assert_eq!(service.affinity, expected, "{spec}");
    }
}

#[test]
fn the_annotation_says_how_to_balance() {
    for (value, expected, known) in [
        (None, Balance::Random, true),
        (Some("random"), Balance::Random, true),
        (Some("maglev"), Balance::Maglev, true),
        (Some("least"), Balance::Least, true),
        (Some("Maglev"), Balance::Random, false),
        (Some(""), Balance::Random, false),
    ] {
        let annotations = json!({"vetch.dev/balance": value.unwrap_or_default()});
        let extra = match value {
            None => json!({}),
            Some(_) => json!({ "annotations": annotations }),
        };
        let service = read("ClusterIP", extra);
        assert_eq!(service.balance, expected, "{value:?}");
        let problem = Problem::Balance(value.unwrap_or_default().to_owned());
        assert_eq!(service.problems.contains(&problem), !known, "{value:?}");
    }
}

#[test]
fn only_balancers_with_policy_local_are_asked_for_their_health() {
    for (type_, policy, expected) in [
        ("LoadBalancer", "Local", Some(31000)),
        ("LoadBalancer", "Cluster", None),
        ("NodePort", "Local", None),
        ("ClusterIP", "Local", None),
    ] {
        let spec = json!({"externalTrafficPolicy": policy, "healthCheckNodePort": 31000});
        let service = read(type_, json!({ "spec": spec }));
        assert_eq!(service.health_check_port(), expected, "{type_} {policy}");
    }
}

use serde_json::{Value, json};

use super::*;

fn service(value: Value) -> Service {
    named_service(value, None)
}

fn named_service(value: Value, proxy_name: Option<&str>) -> Service {
    let service = serde_json::from_value::<core::v1::Service>(value).unwrap();
    Service::read(&service, proxy_name)
}

fn slice(value: Value) -> Slice {
    Slice::from(&serde_json::from_value::<discovery::v1::EndpointSlice>(value).unwrap())
}

/// Reads as `10.96.0.10:80/TCP -> 10.244.1.2:8080 10.244.1.3:8080`.
fn table(service: &Service, slices: &[Slice]) -> Vec<String> {
    wanted(service, slices.iter())
        .iter()
        .map(|port| {
            let frontends: Vec<String> = port.frontends.iter().map(ToString::to_string).collect();
            let backends: Vec<String> = port.backends.iter().map(ToString::to_string).collect();
            format!("{} -> {}", frontends.join(" "), backends.join(" "))
        })
        .collect()
}

fn web(extra: Value) -> Service {
    let mut spec = json!({
        "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    service(json!({"metadata": {"name": "web"}, "spec": spec}))
}

fn web_slice(endpoints: Value) -> Slice {
    slice(json!({
        "metadata": {"name": "web-1"}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints
    }))
}

fn endpoint(
    ip: &str,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
) -> Value {
    json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

#[test]
fn endpoint_conditions_decide_as_kube_proxy_does() {
    let a = |ready, serving, terminating| endpoint("10.244.1.1", ready, serving, terminating);
    let b = |ready, serving, terminating| endpoint("10.244.1.2", ready, serving, terminating);
    let (yes, no) = (Some(true), Some(false));
    let table_of_cases = [
        (
            "both ready",
            vec![a(yes, yes, no), b(yes, yes, no)],
            "10.244.1.1:8080 10.244.1.2:8080",
        ),
        (
            "unset means ready",
            vec![a(None, None, None)],
            "10.244.1.1:8080",
        ),
        (
            "one not ready",
            vec![a(yes, yes, no), b(no, no, no)],
            "10.244.1.1:8080",
        ),
        (
            "one draining",
            vec![a(yes, yes, no), b(no, yes, yes)],
            "10.244.1.1:8080",
        ),
        (
            "all draining",
            vec![a(no, yes, yes), b(no, yes, yes)],
            "10.244.1.1:8080 10.244.1.2:8080",
        ),
        (
            "draining but done serving",
            vec![a(no, no, yes), b(no, yes, yes)],
            "10.244.1.2:8080",
        ),
        (
            "serving, not ready, not terminating",
            vec![a(no, yes, no)],
            "",
        ),
        ("none", vec![], ""),
    ];
    for (case, endpoints, expected) in table_of_cases {
        let slices = [web_slice(json!(endpoints))];
        assert_eq!(
            table(&web(json!({})), &slices),
            [format!("10.96.0.10:80/TCP -> {expected}")],
            "{case}"
        );
    }
}

#[test]
fn services_of_others_have_no_frontends() {
    let labelled = service(json!({
        "metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "mesh"}},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}
    }));
    let none = Vec::<String>::new();
    assert_eq!(table(&labelled, &[]), none);
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"clusterIP": "", "clusterIPs": []}),
        json!({"type": "ExternalName", "externalName": "example.org"}),
        json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
    ] {
        assert_eq!(table(&web(spec.clone()), &[]), none, "{spec}");
    }
}

#[test]
fn ports_match_by_name_and_protocol() {
    let dns = web(json!({"ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "protocol": "TCP"},
        {"name": "odd", "port": 9, "protocol": "SCTP"}
    ]}));
    let slice = slice(json!({
        "metadata": {"name": "dns"}, "addressType": "IPv4",
        "ports": [
            {"name": "dns", "port": 5353, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
            {"name": "metrics", "port": null, "protocol": "TCP"},
            {"name": "metrics", "port": 9, "protocol": "UDP"}
        ],
        "endpoints": [{"addresses": ["10.244.1.1", "10.244.9.9"]}]
    }));
    let expected = [
        "10.96.0.10:53/UDP -> 10.244.1.1:5353",
        "10.96.0.10:53/TCP -> 10.244.1.1:5354",
        "10.96.0.10:9153/TCP -> ",
    ];
    assert_eq!(table(&dns, &[slice]), expected);
}

#[test]
fn slices_add_up_without_duplicates_whatever_their_ports() {
    let other = |port: u16| {
        slice(json!({
            "metadata": {"name": "web-2"}, "addressType": "IPv4", "ports": [{"port": port}],
            "endpoints": [{"addresses": ["10.244.1.1"]}]
        }))
    };
    let six = slice(json!({
        "metadata": {"name": "web-6"}, "addressType": "IPv6", "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["fd00::7"]}]
    }));
    let slices = [
        web_slice(json!([{"addresses": ["10.244.1.1"]}])),
        other(8080),
        other(8081),
        six,
    ];
    assert_eq!(
        table(&web(json!({})), &slices),
        ["10.96.0.10:80/TCP -> 10.244.1.1:8080 10.244.1.1:8081"]
    );
}

#[test]
fn the_label_says_whose_a_service_is() {
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
        let ports = wanted(&named_service(service, ours), std::iter::empty());
        assert_eq!(ports.len(), usize::from(served), "{label:?} {ours:?}");
    }
}

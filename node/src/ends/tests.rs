use serde_json::{Value, json};

use super::*;

fn address(text: &str) -> Found {
    Found::Address(text.parse().unwrap())
}

fn pod(phase: &str, ips: &[&str]) -> Found {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let ports = json!([
        {"name": "http", "containerPort": 8080},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]);
    let pod = json!({
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"containers": [{"name": "side"}, {"name": "app", "ports": ports}]},
        "status": {"phase": phase, "podIPs": ips},
    });
    Found::Pod(serde_json::from_value(pod).unwrap())
}

fn service(ips: &[&str], ports: Value) -> Found {
    let service = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"clusterIP": ips.first(), "clusterIPs": ips, "ports": ports},
    });
    Found::Service(serde_json::from_value(service).unwrap())
}

fn ports() -> Value {
    json!([
        {"name": "http", "port": 80},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ])
}

/// `src > dst what`, or the error's words.
fn asked(src: &Found, dst: &Found, port: Option<&str>, protocol: Option<Protocol>) -> String {
    match question(src, dst, port, protocol) {
        Ok(question) => {
            let what = match question.what {
                Opening::Ping => "ping".to_owned(),
                Opening::Port(protocol, port) => format!("{protocol:?} {port}"),
            };
            format!("{} > {} {what}", question.src, question.dst)
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn addresses_are_of_one_family() {
    let (four, six) = ("10.244.1.2", "fd44::2");
    let both = [four, six];
    for (src, dst, want) in [
        (
            address("10.0.0.1"),
            address("10.0.0.2"),
            "10.0.0.1 > 10.0.0.2 ping",
        ),
        (
            address("10.0.0.1"),
            address("fd00::2"),
            "10.0.0.1 and fd00::2 have no addresses of one family",
        ),
        (
            pod("Running", &both),
            address("fd00::2"),
            "fd44::2 > fd00::2 ping",
        ),
        (
            address("10.0.0.1"),
            pod("Running", &both),
            "10.0.0.1 > 10.244.1.2 ping",
        ),
        // The destination's own family goes before the sender's.
        (
            pod("Running", &both),
            pod("Running", &[six, four]),
            "fd44::2 > fd44::2 ping",
        ),
        (
            pod("Running", &[four]),
            pod("Running", &[six]),
            "the pod shop/web-0 and the pod shop/web-0 have no addresses of one family",
        ),
        (
            pod("Pending", &[]),
            address("10.0.0.2"),
            "the pod shop/web-0 has no address yet (Pending)",
        ),
        (
            address("10.0.0.1"),
            pod("Succeeded", &[four]),
            "the pod shop/web-0 has ended (Succeeded)",
        ),
    ] {
        assert_eq!(asked(&src, &dst, None, None), want);
    }
}

#[test]
fn a_services_port_by_name_by_number_or_its_only_one() {
    let src = address("10.244.1.2");
    let many = service(&["10.96.0.9", "fd96::9"], ports());
    let has = "it has http 80/TCP, dns 53/UDP, dns-tcp 53/TCP";
    for (port, protocol, want) in [
        (
            Some("http"),
            None,
            "10.244.1.2 > 10.96.0.9 Tcp 80".to_owned(),
        ),
        (Some("80"), None, "10.244.1.2 > 10.96.0.9 Tcp 80".to_owned()),
        (
            Some("dns"),
            None,
            "10.244.1.2 > 10.96.0.9 Udp 53".to_owned(),
        ),
        (Some("53"), None, "10.244.1.2 > 10.96.0.9 Tcp 53".to_owned()),
        (
            Some("53"),
            Some(Protocol::Udp),
            "10.244.1.2 > 10.96.0.9 Udp 53".to_owned(),
        ),
        (
            Some("http"),
            Some(Protocol::Udp),
            format!("the service shop/web has no such port http: {has}"),
        ),
        (
            Some("8080"),
            None,
            format!("the service shop/web has no such port 8080: {has}"),
        ),
        (
            None,
            None,
            format!("say which port of the service shop/web: {has}"),
        ),
        (
            None,
            Some(Protocol::Udp),
            "10.244.1.2 > 10.96.0.9 Udp 53".to_owned(),
        ),
    ] {
        assert_eq!(
            asked(&src, &many, port, protocol),
            want,
            "{port:?} {protocol:?}"
        );
    }
    let one = service(&["10.96.0.9"], json!([{"port": 443}]));
    assert_eq!(
        asked(&src, &one, None, None),
        "10.244.1.2 > 10.96.0.9 Tcp 443"
    );
    let headless = service(&["None"], json!([{"port": 443}]));
    assert_eq!(
        asked(&src, &headless, Some("443"), None),
        "the service shop/web has no address of the cluster's: name one of its pods"
    );
}

/// Init containers that end are not there to be spoken to.
#[test]
fn a_sidecars_port_by_name() {
    let ports = |name: &str, port: u16| json!([{"name": name, "containerPort": port}]);
    let pod = json!({
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {
            "initContainers": [
                {"name": "first", "ports": ports("setup", 1)},
                {"name": "never", "ports": ports("once", 2), "restartPolicy": "Never"},
                {"name": "beside", "ports": ports("metrics", 9090), "restartPolicy": "Always"},
            ],
            "containers": [{"name": "app", "ports": ports("http", 8080)}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.2"}]},
    });
    let dst = Found::Pod(serde_json::from_value(pod).unwrap());
    let refused = |name| {
        format!(
            "the pod shop/web-0 has no such port {name}: it has http 8080/TCP, metrics 9090/TCP"
        )
    };
    for (port, want) in [
        ("http", "10.0.0.1 > 10.244.1.2 Tcp 8080".to_owned()),
        ("metrics", "10.0.0.1 > 10.244.1.2 Tcp 9090".to_owned()),
        ("setup", refused("setup")),
        ("once", refused("once")),
    ] {
        let got = asked(&address("10.0.0.1"), &dst, Some(port), None);
        assert_eq!(got, want, "{port}");
    }
}

#[test]
fn a_pods_port_by_name_or_any_number() {
    let (src, dst) = (address("10.0.0.1"), pod("Running", &["10.244.1.2"]));
    let has = "it has http 8080/TCP, dns 53/UDP";
    for (port, protocol, want) in [
        (
            Some("http"),
            None,
            "10.0.0.1 > 10.244.1.2 Tcp 8080".to_owned(),
        ),
        (Some("dns"), None, "10.0.0.1 > 10.244.1.2 Udp 53".to_owned()),
        (
            Some("9999"),
            None,
            "10.0.0.1 > 10.244.1.2 Tcp 9999".to_owned(),
        ),
        (
            Some("9999"),
            Some(Protocol::Sctp),
            "10.0.0.1 > 10.244.1.2 Sctp 9999".to_owned(),
        ),
        (
            Some("metrics"),
            None,
            format!("the pod shop/web-0 has no such port metrics: {has}"),
        ),
        (
            None,
            Some(Protocol::Tcp),
            "a port is missing: --protocol asks for one, as in ADDRESS:PORT".to_owned(),
        ),
    ] {
        assert_eq!(
            asked(&src, &dst, port, protocol),
            want,
            "{port:?} {protocol:?}"
        );
    }
}

//! The variables every container gets for the Services of its namespace.

use std::collections::BTreeMap;

use crate::pods::services::{ByNamespace, Port, Service};

/// For a pod of `namespace`; the `kubernetes` Service of `default` always.
pub fn variables(services: &ByNamespace, namespace: &str, links: bool) -> BTreeMap<String, String> {
    let api = services.get("default", "kubernetes");
    let own = services.of(namespace).filter(|_| links);
    // One of the namespace's own of that name comes later, and holds.
    let chosen: BTreeMap<&str, &Service> = api
        .map(|service| ("kubernetes", service))
        .into_iter()
        .chain(own)
        .collect();
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        of_service(name, service, &mut variables);
    }
    variables
}

fn of_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let ip = &*service.cluster_ip;
    let Some(first) = service.ports.first() else {
        return;
    };
    let prefix = variable(name);
    let mut set = |suffix: String, value: String| {
        variables.insert(format!("{prefix}_{suffix}"), value);
    };
    set("SERVICE_HOST".into(), ip.to_owned());
    set("SERVICE_PORT".into(), first.number.to_string());
    for port in &service.ports {
        if let Some(name) = &port.name {
            let suffix = format!("SERVICE_PORT_{}", variable(name));
            set(suffix, port.number.to_string());
        }
    }
    // Docker's links, in the form they once had.
    set("PORT".into(), url(first, ip));
    for port in &service.ports {
        let link = format!("PORT_{}_{}", port.number, port.protocol);
        set(link.clone(), url(port, ip));
        set(format!("{link}_PROTO"), port.protocol.to_ascii_lowercase());
        set(format!("{link}_PORT"), port.number.to_string());
        set(format!("{link}_ADDR"), ip.to_owned());
    }
}

fn url(port: &Port, ip: &str) -> String {
    let scheme = port.protocol.to_ascii_lowercase();
    if ip.contains(':') {
        format!("{scheme}://[{ip}]:{}", port.number)
    } else {
        format!("{scheme}://{ip}:{}", port.number)
    }
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1;
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> v1::Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": [
                {"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn who_sees_which_services() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("default", "other", "10.96.0.2"),
            service("a", "my-web", "10.96.0.3"),
            service("a", "headless", "None"),
            service("a", "external", ""),
        ];
        let services = services.iter().collect();
        for (namespace, links, want) in [
            ("a", true, vec!["KUBERNETES", "MY_WEB"]),
            ("a", false, vec!["KUBERNETES"]),
            ("b", true, vec!["KUBERNETES"]),
            ("default", true, vec!["KUBERNETES", "OTHER"]),
        ] {
            let got: Vec<String> = variables(&services, namespace, links)
                .into_keys()
                .filter_map(|name| name.strip_suffix("_SERVICE_HOST").map(str::to_owned))
                .collect();
            assert_eq!(got, want, "{namespace} {links}");
        }
    }

    #[test]
    fn names_and_values() {
        let services = [service("a", "my-web", "10.96.0.3")].iter().collect();
        let got = variables(&services, "a", true);
        let want = [
            ("MY_WEB_PORT", "tcp://10.96.0.3:80"),
            ("MY_WEB_PORT_53_UDP", "udp://10.96.0.3:53"),
            ("MY_WEB_PORT_53_UDP_ADDR", "10.96.0.3"),
            ("MY_WEB_PORT_53_UDP_PORT", "53"),
            ("MY_WEB_PORT_53_UDP_PROTO", "udp"),
            ("MY_WEB_PORT_80_TCP", "tcp://10.96.0.3:80"),
            ("MY_WEB_PORT_80_TCP_ADDR", "10.96.0.3"),
            ("MY_WEB_PORT_80_TCP_PORT", "80"),
            ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_WEB_SERVICE_HOST", "10.96.0.3"),
            ("MY_WEB_SERVICE_PORT", "80"),
            ("MY_WEB_SERVICE_PORT_HTTP", "80"),
        ];
        let got: Vec<(&str, &str)> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, want);
    }
}

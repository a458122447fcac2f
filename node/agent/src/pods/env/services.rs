//! The variables every container gets for the Services of its namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// For a pod of `namespace`; the `kubernetes` Service of `default` always.
pub fn variables(
    services: &[Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let home = service.metadata.namespace.as_deref().unwrap_or_default();
        if address(service).is_none() {
            continue;
        }
        if home == namespace && links {
            chosen.insert(name, service);
        } else if home == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        of_service(name, service, &mut variables);
    }
    variables
}

fn address(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn of_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(ip) = address(service) else { return };
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable(name);
    let mut set = |suffix: String, value: String| {
        variables.insert(format!("{prefix}_{suffix}"), value);
    };
    set("SERVICE_HOST".into(), ip.to_owned());
    set("SERVICE_PORT".into(), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let suffix = format!("SERVICE_PORT_{}", variable(name));
            set(suffix, port.port.to_string());
        }
    }
    // Docker's links, in the form they once had.
    set("PORT".into(), url(first, ip));
    for port in ports {
        let protocol = protocol(port);
        let link = format!("PORT_{}_{protocol}", port.port);
        set(link.clone(), url(port, ip));
        set(format!("{link}_PROTO"), protocol.to_ascii_lowercase());
        set(format!("{link}_PORT"), port.port.to_string());
        set(format!("{link}_ADDR"), ip.to_owned());
    }
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn url(port: &ServicePort, ip: &str) -> String {
    let scheme = protocol(port).to_ascii_lowercase();
    if ip.contains(':') {
        format!("{scheme}://[{ip}]:{}", port.port)
    } else {
        format!("{scheme}://{ip}:{}", port.port)
    }
}

fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": [
                    {"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"},
                ]},
            }))
            .unwrap(),
        )
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
        let got = variables(&[service("a", "my-web", "10.96.0.3")], "a", true);
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

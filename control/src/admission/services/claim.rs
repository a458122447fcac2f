//! What a service holds of the cluster's addresses and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::node_ports;
use crate::admission::{list, text};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// In their canonical spelling.
    pub addresses: BTreeSet<String>,
    pub ports: BTreeSet<u16>,
}

impl Claim {
    pub fn of(service: &Value) -> Claim {
        let mut claim = Claim::default();
        if wants_address(service) {
            let single = text(service, "/spec/clusterIP");
            let all = list(service, "/spec/clusterIPs")
                .iter()
                .filter_map(Value::as_str)
                .chain([single]);
            claim.addresses = all
                .filter_map(|ip| Some(ip.parse::<IpAddr>().ok()?.to_string()))
                .collect();
        }
        if node_ports::has(service) {
            claim.ports = node_ports::given(service)
                .into_iter()
                .map(|(_, port)| port)
                .collect();
            if node_ports::wants_health_check(service) {
                claim.ports.extend(node_ports::health_check(service));
            }
        }
        claim
    }
}

/// Neither headless nor a mere name.
pub fn wants_address(service: &Value) -> bool {
    matches!(
        text(service, "/spec/type"),
        "ClusterIP" | "NodePort" | "LoadBalancer"
    ) && text(service, "/spec/clusterIP") != "None"
}

/// An address, once set, stays as long as the service has one of that family.
pub fn changes_address(new: &Value, old: &Value) -> bool {
    let external = |service: &Value| text(service, "/spec/type") == "ExternalName";
    let listed = |service: &Value| list(service, "/spec/clusterIPs").to_vec();
    let changed = || {
        let (now, before) = (listed(new), listed(old));
        now.iter().zip(&before).any(|(now, before)| now != before)
    };
    !external(new) && !external(old) && changed()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_what_the_type_uses() {
        let ports = json!([{"port": 53, "protocol": "UDP", "nodePort": 30053}, {"port": 53, "nodePort": 30053}]);
        let table = [
            (
                json!({"type": "ClusterIP", "clusterIP": "10.96.0.9"}),
                vec!["10.96.0.9"],
                vec![],
            ),
            (
                json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"]}),
                vec![],
                vec![],
            ),
            (
                json!({"type": "ExternalName", "externalName": "a.b"}),
                vec![],
                vec![],
            ),
            (
                json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": ports}),
                vec!["10.96.0.9"],
                vec![30053],
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000, "ports": ports}),
                vec![],
                vec![30053, 31000],
            ),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 31000}),
                vec![],
                vec![],
            ),
        ];
        for (spec, addresses, ports) in table {
            let claim = Claim::of(&json!({"spec": spec}));
            let expected = Claim {
                addresses: addresses.into_iter().map(str::to_owned).collect(),
                ports: ports.into_iter().collect(),
            };
            assert_eq!(claim, expected, "{spec}");
        }
    }

    #[test]
    fn only_an_external_name_lets_go_of_its_address() {
        let service = |kind: &str, ips: &[&str]| json!({"spec": {"type": kind, "clusterIPs": ips}});
        let one = service("ClusterIP", &["10.96.0.9"]);
        let two = service("ClusterIP", &["10.96.0.9", "fd00::9"]);
        for (old, new, changes) in [
            (&one, &service("NodePort", &["10.96.0.9"]), false),
            (&one, &service("ClusterIP", &["10.96.0.8"]), true),
            (
                &service("ClusterIP", &["None"]),
                &service("ClusterIP", &["10.96.0.8"]),
                true,
            ),
            (&one, &service("ExternalName", &[]), false),
            (&service("ExternalName", &[]), &one, false),
            (&one, &two, false),
            (&two, &one, false),
            (&two, &service("ClusterIP", &["10.96.0.9", "fd00::8"]), true),
        ] {
            assert_eq!(changes_address(new, old), changes, "{old} {new}");
        }
    }
}

//! Which node ports a service has and lacks.

use serde_json::Value;

use crate::admission::{list, text};

/// Types that may have node ports.
pub fn has(service: &Value) -> bool {
    matches!(text(service, "/spec/type"), "NodePort" | "LoadBalancer")
}

/// A service whose ports get node ports, or that names some itself.
pub fn wants(service: &Value) -> bool {
    has(service) && (allocates(service) || !given(service).is_empty())
}

fn allocates(service: &Value) -> bool {
    text(service, "/spec/type") == "NodePort"
        || service["spec"]["allocateLoadBalancerNodePorts"] != false
}

fn port_number(port: &Value) -> Option<u16> {
    let number = port.as_u64()?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

/// The node ports it names, with their places in spec.ports.
pub fn given(service: &Value) -> Vec<(usize, u16)> {
    let ports = list(service, "/spec/ports").iter().enumerate();
    ports
        .filter_map(|(index, port)| Some((index, port_number(&port["nodePort"])?)))
        .collect()
}

/// The places in spec.ports that are to get a node port.
pub fn missing(service: &Value) -> Vec<usize> {
    if !has(service) || !allocates(service) {
        return Vec::new();
    }
    let ports = list(service, "/spec/ports").iter().enumerate();
    // A number that is no port validation refuses.
    ports
        .filter(|(_, port)| port["nodePort"].as_i64().unwrap_or_default() == 0)
        .map(|(index, _)| index)
        .collect()
}

/// The node port of the same port in another protocol: DNS over UDP and TCP share theirs.
pub fn shared(service: &Value, index: usize) -> Option<u16> {
    let ports = list(service, "/spec/ports");
    let port = ports.get(index)?;
    let number = ports
        .iter()
        .filter(|other| other["port"] == port["port"] && other["protocol"] != port["protocol"])
        .find_map(|other| port_number(&other["nodePort"]))?;
    let in_use = ports.iter().any(|other| {
        other["protocol"] == port["protocol"] && port_number(&other["nodePort"]) == Some(number)
    });
    (!in_use).then_some(number)
}

/// Only there a load balancer asks which nodes have endpoints.
pub fn wants_health_check(service: &Value) -> bool {
    text(service, "/spec/type") == "LoadBalancer"
        && text(service, "/spec/externalTrafficPolicy") == "Local"
}

pub fn health_check(service: &Value) -> Option<u16> {
    port_number(&service["spec"]["healthCheckNodePort"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_of_exposed_services_get_node_ports() {
        let ports =
            json!([{"port": 80}, {"port": 81, "nodePort": 30081}, {"port": 82, "nodePort": 0}]);
        for (spec, lacking) in [
            (json!({"type": "ClusterIP", "ports": ports}), vec![]),
            (json!({"type": "NodePort", "ports": ports}), vec![0, 2]),
            (json!({"type": "LoadBalancer", "ports": ports}), vec![0, 2]),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}),
                vec![],
            ),
        ] {
            assert_eq!(missing(&json!({"spec": spec})), lacking, "{spec}");
        }
    }

    #[test]
    fn protocols_of_one_port_share_its_node_port() {
        let service = json!({"spec": {"ports": [
            {"port": 53, "protocol": "UDP", "nodePort": 30053},
            {"port": 53, "protocol": "TCP"},
            {"port": 54, "protocol": "TCP"},
        ]}});
        assert_eq!(shared(&service, 1), Some(30053));
        assert_eq!(shared(&service, 2), None);
    }
}

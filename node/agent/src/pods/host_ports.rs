//! Ports of the node that a pod asks for.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use vetch_network::{HostPort, Protocol};

use super::spec;

/// Of the containers that go on running, as for the scheduler. For a pod of the node's network they
/// only say what it may listen at.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let sidecars = spec::init_containers(pod)
        .iter()
        .filter(|container| spec::is_sidecar(container));
    let containers = spec::containers(pod).iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(read).collect()
}

/// None for what the API server lets nobody ask for.
fn read(port: &ContainerPort) -> Option<HostPort> {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
    Some(HostPort {
        host_ip: match port.host_ip.as_deref() {
            None | Some("" | "0.0.0.0") => None,
            Some(ip) => Some(ip.parse::<IpAddr>().ok()?.to_canonical()),
        },
        protocol: Protocol::named(port.protocol.as_deref())?,
        port: number(port.host_port?)?,
        container_port: number(port.container_port)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn ports_of_containers_that_go_on() {
        let read = |ports: serde_json::Value| {
            let ports = host_ports(&pod(json!({"containers": [{"name": "c", "ports": ports}]})));
            let line = |port: &HostPort| format!("{port} {}", port.container_port);
            ports.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        for (ports, expected) in [
            (json!(null), ""),
            (json!([{"containerPort": 80}]), ""),
            (json!([{"containerPort": 80, "hostPort": 0}]), ""),
            (
                json!([{"containerPort": 80, "hostPort": 8080}]),
                "8080/TCP 80",
            ),
            (
                json!([{"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": ""}]),
                "53/UDP 53",
            ),
            (
                json!([{"containerPort": 1, "hostPort": 2, "protocol": "SCTP", "hostIP": "0.0.0.0"}]),
                "2/SCTP 1",
            ),
            (
                json!([
                    {"containerPort": 1, "hostPort": 2, "hostIP": "127.0.0.1"},
                    {"containerPort": 3, "hostPort": 4, "hostIP": "::1"},
                ]),
                "127.0.0.1:2/TCP 1, [::1]:4/TCP 3",
            ),
        ] {
            assert_eq!(read(ports.clone()), expected, "{ports}");
        }
        let port = |number: i32| json!([{"containerPort": 80, "hostPort": number}]);
        let several = pod(json!({
            "initContainers": [
                {"name": "first", "ports": port(1)},
                {"name": "beside", "ports": port(2), "restartPolicy": "Always"},
            ],
            "containers": [{"name": "a", "ports": port(3)}, {"name": "b", "ports": port(4)}],
        }));
        let numbers: Vec<u16> = host_ports(&several).iter().map(|port| port.port).collect();
        assert_eq!(numbers, [3, 4, 2]);
    }
}

//! What a pod may ask for and this node does not do: said, never skipped in silence.

use k8s_openapi::api::core::v1::Pod;

use super::host_ports::host_ports;
use super::spec;

/// Why the pod cannot run here at all.
pub fn refusal(pod: &Pod) -> Option<String> {
    let own = spec::spec(pod);
    if own.resource_claims.iter().flatten().next().is_some() {
        return Some("resourceClaims are not supported by this node".into());
    }
    None
}

/// (reason, message) of events for what is left out while the pod runs.
pub fn warnings(pod: &Pod, missing_controllers: &[String]) -> Vec<(&'static str, String)> {
    let mut warnings = Vec::new();
    if !spec::host_network(pod) {
        let ports = host_ports(pod);
        for port in ports.iter().filter(|port| !port.can_be_served()) {
            let message = format!(
                "hostPort {port} leads to port {} of the container; SCTP is served only where both are the same",
                port.container_port
            );
            warnings.push(("HostPortNotServed", message));
        }
    }
    for (resource, controller) in [("cpu", "cpu"), ("memory", "memory")] {
        let own = spec::all_containers(pod).map(|container| container.resources.as_ref());
        let limited = own
            .chain([spec::spec(pod).resources.as_ref()])
            .flatten()
            .filter_map(|resources| resources.limits.as_ref())
            .any(|limits| limits.contains_key(resource));
        let missing = missing_controllers.iter().any(|name| name == controller);
        if limited && missing {
            let message = format!(
                "the {resource} limit has no effect: this node has no cgroup v2 controller {controller}"
            );
            warnings.push(("LimitNotEnforced", message));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn pods_that_cannot_run_here() {
        for (spec, refused) in [
            (json!({"containers": []}), false),
            (json!({"containers": [], "hostUsers": true}), false),
            (json!({"containers": [], "hostUsers": false}), false),
            (
                json!({"containers": [], "resourceClaims": [{"name": "gpu"}]}),
                true,
            ),
        ] {
            assert_eq!(refusal(&pod(spec.clone())).is_some(), refused, "{spec}");
        }
    }

    #[test]
    fn what_is_left_out() {
        let limits = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        let ports = json!([
            {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 80, "hostPort": 80, "protocol": "SCTP"},
            {"containerPort": 81, "hostPort": 82, "protocol": "SCTP"},
        ]);
        let spec = |host: bool| json!({"hostNetwork": host, "containers": [{"name": "c", "resources": limits, "ports": ports}]});
        let reasons = |host, missing: &[&str]| {
            let missing: Vec<String> = missing.iter().map(|name| (*name).to_owned()).collect();
            let warnings = warnings(&pod(spec(host)), &missing);
            warnings
                .into_iter()
                .map(|(reason, _)| reason)
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(true, &[]), [""; 0]);
        assert_eq!(reasons(false, &[]), ["HostPortNotServed"]);
        assert_eq!(
            reasons(true, &["cpu", "memory", "pids"]),
            ["LimitNotEnforced", "LimitNotEnforced"]
        );
        let whole =
            pod(json!({"containers": [{"name": "c"}], "resources": {"limits": {"cpu": "1"}}}));
        let missing = ["cpu".to_owned(), "memory".to_owned()];
        assert_eq!(warnings(&whole, &missing).len(), 1, "of the pod as a whole");
    }
}

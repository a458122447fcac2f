//! Whether the node takes a pod that was bound to it.

mod fit;
mod pressure;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use vetch_network::HostPort;

use super::host_ports::host_ports;
use super::quantity::{self, ResourceList};
use super::resources;
use super::spec;
use super::status::Verdict;
use super::text::go_quote;

pub use pressure::under_pressure;

/// Sysctls that are the pod's own in every kernel we run on and harm no
/// neighbour; all others could change the machine.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why it does not. `others` are the requests of the pods the node has taken, `ports` the node's
/// ports that these have; what is unknown of the node refuses nobody.
pub fn refusal(
    pod: &Pod,
    node: Option<&Node>,
    others: &[ResourceList],
    ports: &[HostPort],
) -> Option<Verdict> {
    let rejected = |reason: &str, message: String| {
        let reason = reason.to_owned();
        Some(Verdict { reason, message })
    };
    if let Some(message) = forbidden_sysctl(pod) {
        return rejected("SysctlForbidden", message);
    }
    if let Some(verdict) = fit::other_system(pod) {
        return Some(verdict);
    }
    if let Some(node) = node {
        if let Some(verdict) = fit::kept_away(pod, node) {
            return Some(verdict);
        }
        if !matches_node(pod, node) {
            return rejected("NodeAffinity", "Predicate NodeAffinity failed".to_owned());
        }
        if let Some(shortage) = shortage(pod, node, others) {
            return rejected(&format!("OutOf{}", shortage.resource), shortage.to_string());
        }
    }
    let asked = host_ports(pod);
    let is_taken = |port: &HostPort| ports.iter().any(|taken| taken.collides(port));
    if asked.iter().any(is_taken) {
        return rejected("NodePorts", "Predicate NodePorts failed".to_owned());
    }
    None
}

fn forbidden_sysctl(pod: &Pod) -> Option<String> {
    let context = spec::spec(pod).security_context.as_ref()?;
    for sysctl in context.sysctls.iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            return Some(format!(
                "forbidden sysctl: {} not allowlisted",
                go_quote(&sysctl.name)
            ));
        }
        if name.starts_with("net.") && spec::host_network(pod) {
            return Some(format!(
                "sysctl {} not allowed with host net enabled",
                go_quote(&sysctl.name)
            ));
        }
        if name.starts_with("kernel.shm") && spec::spec(pod).host_ipc == Some(true) {
            return Some(format!(
                "sysctl {} not allowed with host ipc enabled",
                go_quote(&sysctl.name)
            ));
        }
    }
    None
}

/// A resource of which the node has too little left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
)]
pub struct Shortage {
    pub resource: String,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Shortage {
    /// How much others would have to give back.
    pub fn missing(&self) -> i64 {
        let left = self.capacity.saturating_sub(self.used);
        self.requested.saturating_sub(left)
    }
}

/// The first that does not fit.
pub fn shortage(pod: &Pod, node: &Node, others: &[ResourceList]) -> Option<Shortage> {
    shortages(pod, node, others).into_iter().next()
}

/// All that do not fit.
pub fn shortages(pod: &Pod, node: &Node, others: &[ResourceList]) -> Vec<Shortage> {
    let mut found = Vec::new();
    let status = node.status.as_ref();
    let Some(allocatable) = status.and_then(|status| status.allocatable.as_ref()) else {
        return found;
    };
    if let Some(pods) = allocatable.get("pods") {
        let (capacity, used) = (quantity::value(pods), others.len());
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        if used + 1 > capacity {
            found.push(Shortage {
                resource: "pods".to_owned(),
                requested: 1,
                used,
                capacity,
            });
        }
    }
    for (name, request) in resources::pod_requests(pod) {
        let requested = quantity::amount(&name, &request);
        if requested == 0 {
            continue;
        }
        let capacity = allocatable
            .get(&name)
            .map_or(0, |capacity| quantity::amount(&name, capacity));
        let used = others
            .iter()
            .filter_map(|list| list.get(&name))
            .map(|quantity| quantity::amount(&name, quantity))
            .fold(0_i64, i64::saturating_add);
        if requested > capacity.saturating_sub(used) {
            found.push(Shortage {
                resource: name,
                requested,
                used,
                capacity,
            });
        }
    }
    found
}

fn matches_node(pod: &Pod, node: &Node) -> bool {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    };
    let selected = spec::spec(pod)
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| label(key) == Some(value.as_str()));
    let required = spec::spec(pod)
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let name = node.metadata.name.as_deref();
    let affine = required.is_none_or(|selector| {
        let terms = selector.node_selector_terms.iter();
        terms.into_iter().any(|term| term_fits(term, &label, name))
    });
    selected && affine
}

/// A term without conditions selects nothing.
fn term_fits<'a>(
    term: &NodeSelectorTerm,
    label: &impl Fn(&str) -> Option<&'a str>,
    name: Option<&'a str>,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|wanted| requirement_fits(wanted, label(&wanted.key)))
        && fields.iter().all(|wanted| {
            let value = (wanted.key == "metadata.name").then_some(name).flatten();
            requirement_fits(wanted, value)
        })
}

fn requirement_fits(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|known| known == value));
    let compared = |holds: fn(i64, i64) -> bool| {
        let number = value.and_then(|value| value.parse().ok());
        let limit = values.first().and_then(|limit| limit.parse().ok());
        number
            .zip(limit)
            .is_some_and(|(number, limit)| holds(number, limit))
    };
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(|number, limit| number > limit),
        "Lt" => compared(|number, limit| number < limit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a", "size": "5"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}},
        }))
        .unwrap()
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn resources_that_do_not_fit() {
        let asks = |requests: Value| {
            pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
        };
        let used: ResourceList = [("cpu".to_owned(), Quantity("1500m".into()))].into();
        for (requests, others, want) in [
            (json!({"cpu": "2"}), 0, None),
            (json!({"cpu": "500m"}), 1, None),
            (
                json!({"cpu": "501m"}),
                1,
                Some((
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000",
                )),
            ),
            (
                json!({"memory": "2Gi"}),
                0,
                Some((
                    "OutOfmemory",
                    "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824",
                )),
            ),
            (
                json!({"example.com/gpu": "1"}),
                0,
                Some((
                    "OutOfexample.com/gpu",
                    "Node didn't have enough resource: example.com/gpu, requested: 1, used: 0, capacity: 0",
                )),
            ),
            (
                json!({}),
                3,
                Some((
                    "OutOfpods",
                    "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
                )),
            ),
        ] {
            let others = vec![used.clone(); others];
            let got = refusal(&asks(requests.clone()), Some(&node()), &others, &[]);
            let want = want.map(|(reason, message)| Verdict {
                reason: reason.to_owned(),
                message: message.to_owned(),
            });
            assert_eq!(got, want, "{requests}");
        }
    }

    #[test]
    fn selectors_and_affinity() {
        let affinity = |terms: Value| json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (spec, fits) in [
            (json!({"containers": []}), true),
            (
                json!({"containers": [], "nodeSelector": {"zone": "a"}}),
                true,
            ),
            (
                json!({"containers": [], "nodeSelector": {"zone": "b"}}),
                false,
            ),
            (
                affinity(json!([expression("zone", "In", json!(["a", "b"]))])),
                true,
            ),
            (
                affinity(json!([expression("zone", "NotIn", json!(["a"]))])),
                false,
            ),
            (
                affinity(json!([expression("none", "NotIn", json!(["a"]))])),
                true,
            ),
            (
                affinity(json!([expression("none", "Exists", json!(null))])),
                false,
            ),
            (
                affinity(json!([expression("none", "DoesNotExist", json!(null))])),
                true,
            ),
            (
                affinity(json!([expression("size", "Gt", json!(["4"]))])),
                true,
            ),
            (
                affinity(json!([expression("size", "Lt", json!(["4"]))])),
                false,
            ),
            (
                affinity(json!([
                    expression("size", "Lt", json!(["4"])),
                    expression("zone", "Exists", json!(null))
                ])),
                true,
            ),
            (
                affinity(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]),
                ),
                true,
            ),
            (affinity(json!([{}])), false),
        ] {
            let got = refusal(&pod(spec.clone()), Some(&node()), &[], &[]);
            let reason = got.map(|verdict| verdict.reason);
            let want = (!fits).then(|| "NodeAffinity".to_owned());
            assert_eq!(reason, want, "{spec}");
        }
    }

    #[test]
    fn ports_of_the_node_that_others_have() {
        let asks = |port: Value| pod(json!({"containers": [{"name": "c", "ports": [port]}]}));
        let taken = host_ports(&asks(
            json!({"containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.1"}),
        ));
        for (port, fits) in [
            (json!({"containerPort": 8080}), true),
            (json!({"containerPort": 80, "hostPort": 80}), true),
            (json!({"containerPort": 80, "hostPort": 8080}), false),
            (
                json!({"containerPort": 81, "hostPort": 8080, "hostIP": "192.0.2.1"}),
                false,
            ),
            (
                json!({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}),
                true,
            ),
            (
                json!({"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}),
                true,
            ),
        ] {
            for node in [Some(&node()), None] {
                let got = refusal(&asks(port.clone()), node, &[], &taken);
                let want = (!fits).then(|| Verdict {
                    reason: "NodePorts".to_owned(),
                    message: "Predicate NodePorts failed".to_owned(),
                });
                assert_eq!(got, want, "{port}");
            }
        }
    }

    #[test]
    fn sysctls_that_reach_beyond_the_pod() {
        let sets = |name: &str, host: bool| {
            pod(
                json!({"containers": [], "hostNetwork": host, "securityContext": {"sysctls": [{"name": name, "value": "1"}]}}),
            )
        };
        for (name, host, want) in [
            ("net.ipv4.tcp_syncookies", false, None),
            ("net/ipv4/tcp_syncookies", false, None),
            (
                "net.ipv4.tcp_syncookies",
                true,
                Some("sysctl \"net.ipv4.tcp_syncookies\" not allowed with host net enabled"),
            ),
            (
                "kernel.core_pattern",
                false,
                Some("forbidden sysctl: \"kernel.core_pattern\" not allowlisted"),
            ),
        ] {
            let got = refusal(&sets(name, host), None, &[], &[]).map(|verdict| verdict.message);
            assert_eq!(got.as_deref(), want, "{name}");
        }
    }
}

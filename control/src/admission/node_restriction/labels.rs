//! Labels of nodes that steer workloads, and so are not for nodes to set.

use std::collections::BTreeSet;

use serde_json::Value;

/// Kubernetes' own labels a kubelet knows about itself.
const KUBELETS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// The labels that differ between two nodes and that a node may not touch, in order.
pub fn forbidden(new: &Value, old: &Value) -> Vec<String> {
    let (now, before) = (&new["metadata"]["labels"], &old["metadata"]["labels"]);
    let keys: BTreeSet<&String> = [now, before]
        .into_iter()
        .filter_map(Value::as_object)
        .flat_map(serde_json::Map::keys)
        .collect();
    keys.into_iter()
        .filter(|key| now.get(key.as_str()) != before.get(key.as_str()) && !is_nodes(key))
        .cloned()
        .collect()
}

fn is_nodes(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else {
        return true;
    };
    let below = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if below("node-restriction.kubernetes.io") {
        return false;
    }
    let kubernetes = below("kubernetes.io") || below("k8s.io");
    !kubernetes
        || KUBELETS.contains(&label)
        || below("kubelet.kubernetes.io")
        || below("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_workloads_is_not_the_nodes() {
        for (label, own) in [
            ("disk", true),
            ("example.com/disk", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("kubelet.kubernetes.io/anything", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/tenant", false),
            ("a.node-restriction.kubernetes.io/tenant", false),
            ("k8s.io/anything", false),
            ("notkubernetes.io/anything", true),
        ] {
            assert_eq!(is_nodes(label), own, "{label}");
        }
    }
}

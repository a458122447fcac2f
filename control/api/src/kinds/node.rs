use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node as Typed;
use serde_json::Value;

use super::pod::EFFECTS;
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name, wide};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub const ROW: Resource = Resource {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    storage_prefix: "minions",
    subresources: &[
        Subresource::proxy("NodeProxyOptions"),
        Subresource::status("", "v1", "Node"),
    ],
    decode: typed::<Typed>,
    default: |node| {
        if let Some(status) = node.get_mut("status")
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.default_to("allocatable", capacity);
        }
        // podCIDR is the first of podCIDRs.
        if let Some(spec) = node.get_mut("spec") {
            if let Some(first) = spec.pointer("/podCIDRs/0").cloned() {
                spec.default_to("podCIDR", first);
            } else if !spec.str_at("/podCIDR").is_empty() {
                let only = spec.str_at("/podCIDR").to_string();
                spec.default_to("podCIDRs", vec![only]);
            }
        }
    },
    prepare_update: meta::keep_status,
    validate_create: |node| {
        let mut errors = meta::validate(node, false, names::subdomain);
        validate_spec(node, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_spec(new, &mut errors);
        let path = Path::new("spec");
        for (key, message) in [
            (
                "podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ),
            (
                "providerID",
                "node updates may not change providerID except from \"\" to valid",
            ),
        ] {
            let (now, before) = (
                new.pointer(&format!("/spec/{key}")),
                old.pointer(&format!("/spec/{key}")),
            );
            if before.is_some() && now != before {
                errors.push(path.child(key).forbidden(message));
            }
        }
        errors
    },
    validate_status: |new, old| {
        let mut errors = meta::validate_update(new, old);
        let path = Path::new("status").child("addresses");
        let addresses = new.list_at("/status/addresses");
        for (i, address) in addresses.iter().enumerate() {
            if addresses[..i].contains(address) {
                errors.push(path.index(i).duplicate(address.clone()));
            }
        }
        errors
    },
    selectable_fields: |node| {
        vec![(
            "spec.unschedulable",
            node.bool_at("/spec/unschedulable").to_string(),
        )]
    },
    columns: COLUMNS,
    cells,
    schema: "io.k8s.api.core.v1.Node",
    types: register::<Typed>,
    ..BASE
};

fn validate_spec(node: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("metadata").child("taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in node.list_at("/spec/taints").iter().enumerate() {
        let at = path.index(i);
        let (key, value, effect) = (
            taint.str_at("/key"),
            taint.str_at("/value"),
            taint.str_at("/effect"),
        );
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| at.child("key").invalid(key, m)),
        );
        errors.extend(
            names::label_value(value)
                .iter()
                .map(|m| at.child("value").invalid(value, m)),
        );
        if effect.is_empty() {
            errors.push(at.child("effect").required(""));
        } else if !EFFECTS.contains(&effect) {
            errors.push(at.child("effect").not_supported(effect, EFFECTS));
        }
        if seen.contains(&(key, effect)) {
            errors.push(at.duplicate(taint.clone()));
        }
        seen.push((key, effect));
    }
    let cidrs = node.list_at("/spec/podCIDRs");
    for (i, cidr) in cidrs.iter().filter_map(Value::as_str).enumerate() {
        if cidr.parse::<ipnet::IpNet>().is_err() {
            let at = Path::new("spec").child("podCIDRs").index(i);
            errors.push(at.invalid(
                cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ));
        }
    }
    let families = cidrs.iter().filter_map(Value::as_str);
    let families: Vec<bool> = families
        .filter_map(|cidr| Some(cidr.parse::<ipnet::IpNet>().ok()?.addr().is_ipv4()))
        .collect();
    if families.len() > 2 || matches!(families[..], [one, other] if one == other) {
        let at = Path::new("spec").child("podCIDRs");
        errors.push(at.invalid(
            cidrs.to_vec(),
            "may specify no more than one CIDR for each IP family",
        ));
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "The status of the node"),
    column("Roles", "The roles of the node"),
    AGE,
    column("Version", "Kubelet Version reported by the node."),
    wide(
        "Internal-IP",
        "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).",
    ),
    wide(
        "External-IP",
        "List of addresses reachable to the node from outside.",
    ),
    wide(
        "OS-Image",
        "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
    ),
    wide(
        "Kernel-Version",
        "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
    ),
    wide(
        "Container-Runtime",
        "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).",
    ),
];

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = node
        .list_at("/status/conditions")
        .iter()
        .find(|c| c.str_at("/type") == "Ready");
    let mut status = match ready {
        Some(c) if c.str_at("/status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_string();
    if node.bool_at("/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let info = |key: &str| -> Value {
        match node.str_at(&format!("/status/nodeInfo/{key}")) {
            "" => "<unknown>".into(),
            value => value.into(),
        }
    };
    vec![
        name(node),
        status.into(),
        roles(node).into(),
        age(node, now),
        node.str_at("/status/nodeInfo/kubeletVersion").into(),
        address(node, "InternalIP"),
        address(node, "ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = node
        .map_at("/metadata/labels")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        "<none>".to_string()
    } else {
        roles.join(",")
    }
}

fn address(node: &Value, kind: &str) -> Value {
    let found = node
        .list_at("/status/addresses")
        .iter()
        .find(|a| a.str_at("/type") == kind);
    found.map_or("<none>", |a| a.str_at("/address")).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_read_as_in_kubectl() {
        let node = json!({
            "metadata": {"name": "node-1", "creationTimestamp": "1970-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1"}},
        });
        let cells = cells(&node, Timestamp::from_second(60).unwrap());
        let expected = [
            "node-1",
            "Ready,SchedulingDisabled",
            "edge,worker",
            "60s",
            "v1.36.0",
            "172.30.0.11",
            "<none>",
            "<unknown>",
            "6.1",
            "<unknown>",
        ];
        assert_eq!(cells, expected);
    }

    #[test]
    fn pods_have_one_network_a_family() {
        for (cidrs, fine) in [
            (json!(["10.244.1.0/24"]), true),
            (json!(["fd00:1::/64"]), true),
            (json!(["10.244.1.0/24", "fd00:1::/64"]), true),
            (json!(["10.244.1.0/24", "10.244.2.0/24"]), false),
            (json!(["fd00:1::/64", "fd00:2::/64"]), false),
            (
                json!(["10.244.1.0/24", "fd00:1::/64", "10.244.2.0/24"]),
                false,
            ),
            (json!(["10.244.1.0"]), false),
        ] {
            let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDRs": cidrs}});
            let errors = (ROW.validate_create)(&node);
            assert_eq!(errors.is_empty(), fine, "{cidrs} {errors:?}");
        }
    }

    #[test]
    fn taints_are_checked() {
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}});
        let errors: Vec<String> = (ROW.validate_create)(&node)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "metadata.taints[0].effect: Unsupported value: \"Sometimes\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
            ]
        );
    }
}

//! Which node answers for a service's addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use sha2::{Digest as _, Sha256};

use crate::key::{is_deleted, name_of};
use crate::node::{Ready, ready};

/// On nodes that traffic from outside must not come in by, whatever its value.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What is asked of a node before it may stand at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// People have not said that traffic must not come in by it, and it is not on its way out.
    pub allowed: bool,
    pub ready: bool,
}

pub fn standing(node: &Node) -> Standing {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
    Standing {
        allowed: !excluded && !is_deleted(node),
        ready: ready(node) == Ready::True,
    }
}

/// The nodes that can answer themselves where traffic must not go on to another: those with a ready endpoint, or,
/// where none is ready anywhere, with one that still serves while it ends.
pub fn local_nodes(slices: &[Arc<EndpointSlice>]) -> BTreeSet<&str> {
    let on = |wanted: fn(&Endpoint) -> bool| -> BTreeSet<&str> {
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints
            .filter(|endpoint| wanted(endpoint))
            .filter_map(|endpoint| endpoint.node_name.as_deref())
            .collect()
    };
    let ready = on(is_ready);
    match ready.is_empty() {
        true => on(serves_to_the_end),
        false => ready,
    }
}

/// Unsaid is yes, as the API has it.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|own| own.ready).unwrap_or(true)
}

fn serves_to_the_end(endpoint: &Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_some_and(|own| own.terminating == Some(true) && own.serving == Some(true))
}

/// The node that announces goes on as long as it is eligible: allowed, ready, and among `local` where traffic stays on
/// its node. After it comes the eligible node with the highest hash of address and name, which spreads addresses and
/// moves none that need not move. Where no node is eligible, taking the address away helps nobody: it stays, unless
/// its node is not allowed.
pub fn announcer<'a>(
    address: IpAddr,
    current: Option<&str>,
    nodes: &'a [Arc<Node>],
    local: Option<&BTreeSet<&str>>,
) -> Option<&'a str> {
    let allowed = nodes.iter().filter(|node| standing(node).allowed);
    let eligible = allowed
        .clone()
        .filter(|node| standing(node).ready)
        .map(|node| name_of(node.as_ref()))
        .filter(|name| local.is_none_or(|local| local.contains(name)));
    let stays = eligible.clone().find(|name| Some(*name) == current);
    stays
        .or_else(|| eligible.max_by_key(|name| (weight(address, name), *name)))
        .or_else(|| {
            allowed
                .map(|node| name_of(node.as_ref()))
                .find(|name| Some(*name) == current)
        })
}

fn weight(address: IpAddr, node: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(address.to_string());
    hash.update([0]);
    hash.update(node);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: &str, labels: Value) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn slice(endpoints: Value) -> Vec<Arc<EndpointSlice>> {
        let slice =
            json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints});
        vec![Arc::new(serde_json::from_value(slice).expect("a slice"))]
    }

    #[test]
    fn who_announces() {
        let nodes = [
            node("a", "True", json!({})),
            node("b", "False", json!({})),
            node("c", "True", json!({EXCLUDED: "false"})),
        ];
        let down = [
            node("a", "Unknown", json!({})),
            node("c", "Unknown", json!({EXCLUDED: ""})),
        ];
        let none = BTreeSet::new();
        let (on_a, on_b) = (BTreeSet::from(["a"]), BTreeSet::from(["b", "c"]));
        for (what, nodes, current, local, wanted) in [
            (
                "the only one that is eligible",
                &nodes[..],
                None,
                None,
                Some("a"),
            ),
            ("it takes over", &nodes, Some("b"), None, Some("a")),
            (
                "from an excluded one too",
                &nodes,
                Some("c"),
                None,
                Some("a"),
            ),
            ("from one that is gone", &nodes, Some("x"), None, Some("a")),
            ("with an endpoint", &nodes, None, Some(&on_a), Some("a")),
            (
                "endpoints where none is eligible",
                &nodes,
                None,
                Some(&on_b),
                None,
            ),
            ("so it stays", &nodes, Some("a"), Some(&on_b), Some("a")),
            (
                "no endpoint anywhere",
                &nodes,
                Some("b"),
                Some(&none),
                Some("b"),
            ),
            ("nobody is ready", &down, Some("a"), None, Some("a")),
            ("and that one is excluded", &down, Some("c"), None, None),
            ("nobody at all", &[], Some("a"), None, None),
        ] {
            let address = IpAddr::from([192, 0, 2, 1]);
            assert_eq!(announcer(address, current, nodes, local), wanted, "{what}");
        }
    }

    #[test]
    fn nodes_with_endpoints() {
        let endpoint = |node: &str, conditions: Value| json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": conditions});
        let ends = json!({"ready": false, "serving": true, "terminating": true});
        let waits = json!({"ready": false, "serving": false, "terminating": false});
        for (endpoints, wanted) in [
            (
                vec![
                    endpoint("a", json!({"ready": true})),
                    endpoint("b", ends.clone()),
                ],
                vec!["a"],
            ),
            (vec![endpoint("a", json!({}))], vec!["a"]),
            (
                vec![endpoint("a", waits.clone()), endpoint("b", ends.clone())],
                vec!["b"],
            ),
            (vec![endpoint("a", waits)], vec![]),
            (vec![json!({"addresses": ["10.0.0.1"]})], vec![]),
        ] {
            let slices = slice(json!(endpoints));
            let found: Vec<&str> = local_nodes(&slices).into_iter().collect();
            assert_eq!(found, wanted, "{endpoints:?}");
        }
    }

    #[test]
    fn the_announcer_stays_until_it_cannot_and_addresses_are_spread() {
        let nodes = ["n1", "n2", "n3"].map(|name| node(name, "True", json!({})));
        let of = |last: u8, current: Option<&str>, nodes: &[Arc<Node>]| {
            let address = IpAddr::from([192, 0, 2, last]);
            announcer(address, current, nodes, None).map(str::to_owned)
        };
        assert_eq!(of(1, Some("n1"), &nodes).as_deref(), Some("n1"));
        assert_eq!(of(1, Some("n2"), &nodes).as_deref(), Some("n2"));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for last in 0..=255 {
            let first = of(last, None, &nodes).expect("a node");
            *counts.entry(first.clone()).or_default() += 1;
            if first != "n3" {
                assert_eq!(
                    of(last, None, &nodes[..2]),
                    Some(first),
                    "moved for nothing"
                );
            }
        }
        assert!(counts.values().all(|count| *count > 50), "{counts:?}");
    }
}

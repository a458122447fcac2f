//! Ranges of pod addresses for each node, one of each family: never one range twice, free again when
//! the node goes. A node keeps what it has: one from before the second family stays without it until
//! it is registered anew, as in Kubernetes, whose podCIDRs do not change once they are set.

mod masks;
mod ranges;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

pub use self::masks::NodeMasks;
use self::ranges::Ranges;
pub use self::ranges::RangesError;
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, name_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// When to look again for a node that found no free range.
const FULL: Duration = Duration::from_secs(60);

#[derive(Default)]
struct State {
    /// Ranges that are being written, by node; kept until the cache shows them.
    reserved: HashMap<String, (Option<String>, Vec<IpNet>)>,
    /// Where to look next, in each network: a range that was just freed is taken as late as possible.
    cursors: Vec<u32>,
}

pub struct NodeIpam {
    client: Client,
    events: Recorder,
    /// Of each network.
    ranges: Vec<Ranges>,
    nodes: Arc<Informer<Node>>,
    state: Mutex<State>,
}

impl NodeIpam {
    pub fn new(
        client: Client,
        ranges: Vec<Ranges>,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> NodeIpam {
        let (keys, nodes) = (queue.clone(), informers.nodes.clone());
        informers.nodes.listen(move |change: &Change<Node>| {
            match &change.new {
                Some(node) if cidrs(node).is_empty() => keys.add(ObjectKey::of(node.as_ref())),
                Some(_) => {}
                // A range is free again: somebody may have waited for one.
                None => nodes
                    .select("", |node| cidrs(node).is_empty())
                    .iter()
                    .for_each(|node| keys.add(ObjectKey::of(node.as_ref()))),
            }
        });
        NodeIpam {
            client,
            events: events.of("cidrAllocator"),
            ranges,
            nodes: informers.nodes.clone(),
            state: Mutex::default(),
        }
    }
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref());
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let texts = all.unwrap_or_default().iter().chain(first);
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The node's ranges, one of each network, reserved from now on; None: one network has none left,
/// and then none is taken of the other.
fn reserve(
    networks: &[Ranges],
    state: &mut State,
    nodes: &[Arc<Node>],
    node: &Node,
) -> Option<Vec<IpNet>> {
    // What the cache shows, and what is gone from it, needs no reservation.
    state.reserved.retain(|name, (uid, _)| {
        nodes.iter().any(|own| {
            name_of(own.as_ref()) == name && own.metadata.uid == *uid && cidrs(own).is_empty()
        })
    });
    if let Some((_, ranges)) = state.reserved.get(name_of(node)) {
        return Some(ranges.clone());
    }
    let reserved = state.reserved.values().flat_map(|(_, ranges)| ranges);
    let taken = nodes.iter().flat_map(|own| cidrs(own));
    let taken: Vec<IpNet> = taken.chain(reserved.copied()).collect();
    state.cursors.resize(networks.len(), 0);
    let mut cursors = Vec::new();
    let mut chosen = Vec::new();
    for (network, cursor) in networks.iter().zip(&state.cursors) {
        let (number, range) = network.free(taken.iter().copied(), *cursor)?;
        cursors.push((number + 1) % network.count());
        chosen.push(range);
    }
    state.cursors = cursors;
    let reservation = (node.metadata.uid.clone(), chosen.clone());
    state.reserved.insert(name_of(node).to_owned(), reservation);
    Some(chosen)
}

impl Reconcile for NodeIpam {
    type Key = ObjectKey;

    const NAME: &'static str = "nodeipam";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let node = self
            .nodes
            .get(key)
            .filter(|node| !is_deleted(node.as_ref()));
        let Some(node) = node.filter(|node| cidrs(node).is_empty()) else {
            return Ok(Next::OnChange);
        };
        let ranges = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            reserve(&self.ranges, &mut state, &self.nodes.all(), &node)
        };
        let Some(ranges) = ranges else {
            let message = format!("Node {key} status is now: CIDRNotAvailable");
            self.events
                .record(node.as_ref(), Note::normal("CIDRNotAvailable", message));
            return Ok(Next::After(FULL));
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let patched = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let patched = found(patched).during(|| format!("write podCIDRs {ranges:?} of node {key}"));
        if let Err(error) = &patched
            && !error.is_conflict()
        {
            let message = format!("Node {key} status is now: CIDRAssignmentFailed");
            self.events
                .record(node.as_ref(), Note::normal("CIDRAssignmentFailed", message));
        }
        patched.map(|_| Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, uid: &str, cidrs: &[&str]) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name, "uid": uid},
            "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn nets(texts: &[&str]) -> Option<Vec<IpNet>> {
        let net = |text: &&str| text.parse().expect("a network");
        Some(texts.iter().map(net).collect())
    }

    fn ranges(networks: &[&str]) -> Vec<Ranges> {
        let networks = nets(networks).unwrap_or_default();
        NodeMasks::default().ranges(&networks).expect("ranges")
    }

    fn take(
        networks: &[Ranges],
        state: &mut State,
        nodes: &[Arc<Node>],
        name: &str,
    ) -> Option<Vec<IpNet>> {
        let node = nodes.iter().find(|own| name_of(own.as_ref()) == name);
        reserve(networks, state, nodes, node.expect("a node"))
    }

    #[test]
    fn no_range_is_handed_out_twice() {
        let networks = ranges(&["10.244.0.0/22"]);
        let mut state = State::default();
        let mut take = |nodes: &[Arc<Node>], name: &str| take(&networks, &mut state, nodes, name);
        let mut nodes = vec![
            node("old", "0", &["10.244.1.0/24"]),
            node("a", "1", &[]),
            node("b", "2", &[]),
            node("c", "3", &[]),
            node("d", "4", &[]),
        ];
        assert_eq!(take(&nodes, "a"), nets(&["10.244.0.0/24"]));
        let b = take(&nodes, "b");
        assert_eq!(b, nets(&["10.244.2.0/24"]), "not the old one's");
        assert_eq!(take(&nodes, "a"), nets(&["10.244.0.0/24"]), "tried again");
        assert_eq!(take(&nodes, "c"), nets(&["10.244.3.0/24"]));
        assert_eq!(take(&nodes, "d"), None);
        // Written ones are the cache's to tell.
        nodes[1] = node("a", "1", &["10.244.0.0/24"]);
        assert_eq!(take(&nodes, "d"), None);
        // A node went: its range is free.
        nodes.remove(1);
        assert_eq!(take(&nodes, "d"), nets(&["10.244.0.0/24"]));
        // One that was never written goes with its node, and not to the next of that name.
        nodes.retain(|own| name_of(own.as_ref()) != "b");
        nodes.push(node("b", "5", &[]));
        assert_eq!(take(&nodes, "b"), nets(&["10.244.2.0/24"]));
    }

    #[test]
    fn a_node_gets_a_range_of_each_family_or_none() {
        let networks = ranges(&["10.244.0.0/23", "fd00:1::/63"]);
        let mut state = State::default();
        let mut take = |nodes: &[Arc<Node>], name: &str| take(&networks, &mut state, nodes, name);
        // From before the second family.
        let mut nodes = vec![
            node("old", "0", &["10.244.0.0/24"]),
            node("a", "1", &[]),
            node("b", "2", &[]),
        ];
        let a = take(&nodes, "a");
        assert_eq!(a, nets(&["10.244.1.0/24", "fd00:1::/64"]));
        // Nothing is taken of IPv6 where IPv4 has nothing left.
        assert_eq!(take(&nodes, "b"), None);
        nodes.remove(0);
        let b = take(&nodes, "b");
        assert_eq!(b, nets(&["10.244.0.0/24", "fd00:1:0:1::/64"]));
        // IPv6 first, where it is named first.
        let mut state = State::default();
        let networks = ranges(&["fd00:1::/63", "10.244.0.0/23"]);
        let first = reserve(&networks, &mut state, &nodes, &nodes[0]);
        assert_eq!(first, nets(&["fd00:1::/64", "10.244.0.0/24"]));
    }
}

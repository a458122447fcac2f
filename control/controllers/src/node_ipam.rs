//! A range of pod addresses for each node: never one range twice, free again when the node goes.

mod ranges;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

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
    reserved: HashMap<String, (Option<String>, IpNet)>,
    /// Where to look next: a range that was just freed is taken as late as possible.
    cursor: u32,
}

pub struct NodeIpam {
    client: Client,
    events: Recorder,
    ranges: Ranges,
    nodes: Arc<Informer<Node>>,
    state: Mutex<State>,
}

impl NodeIpam {
    pub fn new(
        client: Client,
        network: IpNet,
        mask: u8,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> Result<NodeIpam, RangesError> {
        let ranges = Ranges::new(network, mask)?;
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
        Ok(NodeIpam {
            client,
            events: events.of("cidrAllocator"),
            ranges,
            nodes: informers.nodes.clone(),
            state: Mutex::default(),
        })
    }
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref());
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let texts = all.unwrap_or_default().iter().chain(first);
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The node's range, reserved from now on; None: there is none left.
fn reserve(ranges: &Ranges, state: &mut State, nodes: &[Arc<Node>], node: &Node) -> Option<IpNet> {
    // What the cache shows, and what is gone from it, needs no reservation.
    state.reserved.retain(|name, (uid, _)| {
        nodes.iter().any(|own| {
            name_of(own.as_ref()) == name && own.metadata.uid == *uid && cidrs(own).is_empty()
        })
    });
    if let Some((_, range)) = state.reserved.get(name_of(node)) {
        return Some(*range);
    }
    let reserved = state.reserved.values().map(|(_, range)| *range);
    let taken = nodes.iter().flat_map(|own| cidrs(own)).chain(reserved);
    let (number, range) = ranges.free(taken, state.cursor)?;
    state.cursor = (number + 1) % ranges.count();
    let reservation = (node.metadata.uid.clone(), range);
    state.reserved.insert(name_of(node).to_owned(), reservation);
    Some(range)
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
        let range = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            reserve(&self.ranges, &mut state, &self.nodes.all(), &node)
        };
        let Some(range) = range else {
            let message = format!("Node {key} status is now: CIDRNotAvailable");
            self.events
                .record(node.as_ref(), Note::normal("CIDRNotAvailable", message));
            return Ok(Next::After(FULL));
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": range, "podCIDRs": [range]},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let patched = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let patched = found(patched).during(|| format!("write podCIDR {range} of node {key}"));
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

    fn node(name: &str, uid: &str, cidr: Option<&str>) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name, "uid": uid},
            "spec": {"podCIDR": cidr, "podCIDRs": cidr.map(|own| [own])},
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    fn net(text: &str) -> Option<IpNet> {
        Some(text.parse().expect("a network"))
    }

    #[test]
    fn no_range_is_handed_out_twice() {
        let ranges = Ranges::new("10.244.0.0/22".parse().expect("a network"), 24).expect("ranges");
        let mut state = State::default();
        let mut take = |nodes: &[Arc<Node>], name: &str| {
            let node = nodes.iter().find(|own| name_of(own.as_ref()) == name);
            reserve(&ranges, &mut state, nodes, node.expect("a node"))
        };
        let mut nodes = vec![
            node("old", "0", Some("10.244.1.0/24")),
            node("a", "1", None),
            node("b", "2", None),
            node("c", "3", None),
            node("d", "4", None),
        ];
        assert_eq!(take(&nodes, "a"), net("10.244.0.0/24"));
        assert_eq!(take(&nodes, "b"), net("10.244.2.0/24"), "not the old one's");
        assert_eq!(take(&nodes, "a"), net("10.244.0.0/24"), "tried again");
        assert_eq!(take(&nodes, "c"), net("10.244.3.0/24"));
        assert_eq!(take(&nodes, "d"), None);
        // Written ones are the cache's to tell.
        nodes[1] = node("a", "1", Some("10.244.0.0/24"));
        assert_eq!(take(&nodes, "d"), None);
        // A node went: its range is free.
        nodes.remove(1);
        assert_eq!(take(&nodes, "d"), net("10.244.0.0/24"));
        // One that was never written goes with its node, and not to the next of that name.
        nodes.retain(|own| name_of(own.as_ref()) != "b");
        nodes.push(node("b", "5", None));
        assert_eq!(take(&nodes, "b"), net("10.244.2.0/24"));
    }
}

//! What other nodes' objects say about the ways to their pods.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;

use futures::StreamExt as _;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use tracing::warn;
use vetch_network::{Network, Peer};

use super::retry::chain;

/// The other nodes, as far as they have pods' networks.
#[derive(Debug, Default)]
struct Peers {
    own: String,
    known: BTreeMap<String, Peer>,
    /// Since the last `Init`; `None` between lists.
    listed: Option<BTreeMap<String, Peer>>,
    complete: bool,
}

impl Peers {
    /// True when the whole is known and may differ from before.
    fn take(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(node) => {
                let peer = peer(&node).filter(|peer| peer.name != self.own);
                if let (Some(listed), Some(peer)) = (&mut self.listed, peer) {
                    listed.insert(peer.name.clone(), peer);
                }
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let differs = !self.complete || self.known != listed;
                self.known = listed;
                self.complete = true;
                return differs;
            }
            Event::Apply(node) => {
                let name = node.name_any();
                if name == self.own {
                    return false;
                }
                let new = peer(&node);
                if self.known.get(&name) == new.as_ref() {
                    return false;
                }
                match new {
                    Some(peer) => self.known.insert(name, peer),
                    None => self.known.remove(&name),
                };
                return self.complete;
            }
            Event::Delete(node) => {
                return self.known.remove(&node.name_any()).is_some() && self.complete;
            }
        }
        false
    }
}

/// `None` until the node has a network for pods and an address. What does not
/// parse is left out.
fn peer(node: &Node) -> Option<Peer> {
    let pod_cidrs = pod_cidrs(node);
    let status = node.status.as_ref()?;
    let internal = status
        .addresses
        .iter()
        .flatten()
        .filter(|address| address.type_ == "InternalIP");
    let node_ips: Vec<IpAddr> = internal
        .filter_map(|address| address.address.parse().ok())
        .collect();
    (!pod_cidrs.is_empty() && !node_ips.is_empty()).then(|| Peer {
        name: node.name_any(),
        pod_cidrs,
        node_ips,
    })
}

/// What does not parse is left out.
pub fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|spec| spec.pod_cidrs.clone());
    let one = spec.and_then(|spec| spec.pod_cidr.clone());
    many.unwrap_or_else(|| one.into_iter().collect())
        .iter()
        .filter_map(|cidr| cidr.parse().ok())
        .collect()
}

/// Tells the network of the other nodes, for ever. It keeps the routes itself.
pub async fn follow(client: Client, own: &str, network: &Network) {
    let nodes: Api<Node> = Api::all(client);
    let mut events = pin!(watcher::watcher(nodes, watcher::Config::default()).default_backoff());
    let mut peers = Peers {
        own: own.to_owned(),
        ..Peers::default()
    };
    let mut said: Option<String> = None;
    // The stream of a watcher has no end.
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                said = None;
                if !peers.take(event) {
                    continue;
                }
            }
            Err(error) => {
                let text = chain(&error);
                if said.as_ref() != Some(&text) {
                    warn!(
                        error = text,
                        "cannot see the other nodes: their pods are reached as far as they were known; trying again"
                    );
                    said = Some(text);
                }
                continue;
            }
        }
        let all: Vec<Peer> = peers.known.values().cloned().collect();
        if let Err(error) = network.set_peers(&all).await {
            warn!(
                error = chain(&error),
                "not every node's pods are reachable yet"
            );
        }
    }
}

#[cfg(test)]
mod tests;

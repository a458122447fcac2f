//! What other nodes' objects say about the ways to their pods.

mod conflicts;

use std::collections::{BTreeMap, BTreeSet};
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

use super::events;
use super::retry::chain;
use conflicts::{Conflict, Known, settle};

/// The reason of the event at a Node that claims what another has.
const CONFLICT: &str = "AddressConflict";

/// The nodes, as far as they have pods' networks.
#[derive(Debug, Default)]
struct Peers {
    own: String,
    /// This node.
    me: Option<Known>,
    /// The others.
    known: BTreeMap<String, Known>,
    /// Since the last `Init`; `None` between lists.
    listed: Option<BTreeMap<String, Known>>,
    complete: bool,
}

impl Peers {
    /// True when the whole is known and may differ from before.
    fn take(&mut self, event: Event<Node>) -> bool {
        match event {
            Event::Init => self.listed = Some(BTreeMap::new()),
            Event::InitApply(node) => {
                if node.name_any() == self.own {
                    self.me = known(&node);
                } else if let (Some(listed), Some(known)) = (&mut self.listed, known(&node)) {
                    listed.insert(known.peer.name.clone(), known);
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
                let new = known(&node);
                if name == self.own {
                    // It is no peer, but it may have been there first.
                    let before = self.settled();
                    self.me = new;
                    return self.complete && before != self.settled();
                }
                if self.known.get(&name) == new.as_ref() {
                    return false;
                }
                match new {
                    Some(known) => self.known.insert(name, known),
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

    /// The other nodes with what is theirs, and who claims what another has.
    fn settled(&self) -> (Vec<Peer>, BTreeSet<Conflict>) {
        let (mut peers, conflicts) = settle(self.known.values().chain(&self.me).collect());
        peers.retain(|peer| peer.name != self.own);
        (peers, conflicts)
    }
}

fn known(node: &Node) -> Option<Known> {
    let since = node.metadata.creation_timestamp.as_ref();
    Some(Known {
        peer: peer(node)?,
        since: since.map(|since| since.0),
    })
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
    let nodes: Api<Node> = Api::all(client.clone());
    let mut watched = pin!(watcher::watcher(nodes, watcher::Config::default()).default_backoff());
    let mut peers = Peers {
        own: own.to_owned(),
        ..Peers::default()
    };
    let mut said: Option<String> = None;
    let mut told = BTreeSet::new();
    // The stream of a watcher has no end.
    while let Some(event) = watched.next().await {
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
        let (all, conflicts) = peers.settled();
        for news in conflicts.difference(&told) {
            warn!(conflict = %news, "two nodes claim one thing");
            // Others have nothing to do with it, and these two are both told of it.
            if [&news.first, &news.second].contains(&&peers.own) {
                events::warn_once(&client, &news.second, CONFLICT, news.to_string()).await;
            }
        }
        told = conflicts;
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

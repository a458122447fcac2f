//! What the node's links were found to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vetch_ebpf_common::PeerPods;

use super::{Hooks, links};
use crate::announce::Uplink;

impl Hooks {
    /// The node's own addresses, as [`Hooks::look`] saw them last.
    pub fn node_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node.addresses
    }

    /// The links by which the node reaches others, likewise.
    pub fn uplinks(&self) -> Vec<Uplink> {
        self.node.uplinks.iter().map(told).collect()
    }

    /// The device of the tunnel to other nodes, likewise.
    pub fn tunnel(&self) -> Option<Uplink> {
        self.node
            .tunnel
            .as_ref()
            .map(|(index, link)| told((index, link)))
    }

    /// By which links `pods` of other nodes are reached, likewise.
    pub fn ways(&self, pods: &BTreeSet<IpNet>) -> BTreeMap<IpNet, PeerPods> {
        let tunnel = self.node.tunnel.as_ref().map(|(index, _)| *index);
        let way = |range: &IpNet| match self.node.peer_routes.get(range) {
            Some(link) if Some(*link) == tunnel => PeerPods::in_tunnel(*link),
            // Of others the programs do not know how long packets may be.
            Some(link) if self.node.uplinks.contains_key(link) => PeerPods::direct(*link),
            _ => PeerPods::default(),
        };
        pods.iter().map(|range| (*range, way(range))).collect()
    }

    /// Their own addresses, by their numbers.
    pub fn uplink_addresses(&self) -> BTreeMap<u32, BTreeSet<IpAddr>> {
        let uplinks = self.node.uplinks.iter();
        uplinks
            .map(|(index, uplink)| (*index, uplink.addresses.clone()))
            .collect()
    }

    pub(super) fn link_name(&self, ifindex: u32) -> String {
        let tunnel = self.node.tunnel.iter();
        let tunnel = tunnel
            .filter(|(index, _)| *index == ifindex)
            .map(|(_, link)| link);
        let uplink = self
            .node
            .uplinks
            .get(&ifindex)
            .into_iter()
            .chain(tunnel)
            .next();
        uplink.map_or_else(|| ifindex.to_string(), |uplink| uplink.name.clone())
    }
}

fn told((index, uplink): (&u32, &links::Uplink)) -> Uplink {
    Uplink {
        index: *index,
        mac: uplink.mac,
        mtu: uplink.mtu,
    }
}

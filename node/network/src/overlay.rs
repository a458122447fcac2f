//! The ways to other nodes' pods: looks at the kernel, has [`crate::peers`] decide,
//! acts. What is right is not touched; what leads somewhere is there before what
//! leads nowhere any more goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use tracing::info;

use crate::{
    Peer,
    link::{self, LinkError},
    netns::{Netlink, Netns},
    peer_route::{self, PeerRoute},
    peers::{Hop, Key, Plan, plan},
    rule, sysctl,
    tunnel::{self, TUNNEL_LINK, Vxlan, neighbours},
    way::NodeRoute,
};

/// What the ways follow from. Held while the kernel's are made so.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Nothing is known of an earlier daemon's until they were told once.
    pub peers: Option<Vec<Peer>>,
    /// This node's; likewise.
    pub pod_cidrs: Option<Vec<IpNet>>,
}

/// This node, to others.
#[derive(Clone, Debug)]
pub struct Own {
    /// The first is the one by which others know it.
    pub addresses: Vec<IpAddr>,
    pub vxlan: Vxlan,
}

impl Told {
    /// Whether a route to this network is one to a peer's node.
    pub fn leads_to_peer(&self, network: &IpNet) -> bool {
        let mut peers = self.peers.iter().flatten();
        peers.any(|peer| peer.addresses().iter().any(|node| network.contains(node)))
    }
}

/// Makes the kernel's routes, and the tunnel if there is need of it, those that the
/// peers ask for. Answers how much was missing. A peer that cannot be routed to does
/// not keep the others from it: the first error is returned at the end.
pub async fn reconcile(
    netns: &Netns,
    netlink: &Netlink,
    own: &Own,
    told: &Told,
) -> Result<usize, crate::Error> {
    let Some(peers) = &told.peers else {
        return Ok(0);
    };
    let looked = look(netlink, peers).await?;
    let plan = plan(peers, &own.addresses, &own.vxlan, |node| looked.route(node));
    let present = peer_route::list(netlink).await?;
    let mut outcome = Outcome::default();
    // In the words of what is not there for it.
    for (to, node) in &plan.lost {
        if let Some(step) = looked.lost(*node) {
            outcome.failed(LinkError::again(format!("route {to} via {node}"), step));
        }
    }
    let device = outcome
        .take(tunnel_for(netns, netlink, own, &plan).await)
        .flatten();
    put_all(netlink, own, &plan, &present, device, &mut outcome).await;
    if let Some(pod_cidrs) = &told.pod_cidrs {
        let ranges: Option<BTreeSet<IpNet>> = match device {
            Some(_) => Some(pod_cidrs.iter().map(IpNet::trunc).collect()),
            // What there is may be right.
            None if plan.mtu.is_some() || !plan.lost.is_empty() => None,
            None => Some(BTreeSet::new()),
        };
        if let Some(ranges) = ranges {
            let new = outcome.take(rule::reconcile(netlink, &ranges).await);
            outcome.new += new.unwrap_or(0);
        }
    }
    remove_others(netlink, &plan, &present, device, &mut outcome).await;
    outcome.end()
}

/// For the end of a node.
pub async fn remove_all(netlink: &Netlink) -> Result<(), LinkError> {
    for route in peer_route::list(netlink).await?.values() {
        peer_route::delete(netlink, route).await?;
    }
    rule::reconcile(netlink, &BTreeSet::new()).await?;
    tunnel::remove(netlink).await
}

#[derive(Debug, Default)]
struct Outcome {
    new: usize,
    error: Option<crate::Error>,
}

impl Outcome {
    fn failed(&mut self, error: impl Into<crate::Error>) {
        self.error.get_or_insert(error.into());
    }

    fn take<T>(&mut self, result: Result<T, impl Into<crate::Error>>) -> Option<T> {
        result.map_err(|error| self.failed(error)).ok()
    }

    fn end(self) -> Result<usize, crate::Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.new),
        }
    }
}

/// What the kernel says of the ways to the peers' nodes.
struct Looked {
    routes: BTreeMap<IpAddr, Result<NodeRoute, LinkError>>,
    mtu: BTreeMap<u32, u32>,
}

impl Looked {
    fn route(&self, node: IpAddr) -> Option<NodeRoute> {
        let route = self.routes.get(&node)?.as_ref().ok()?;
        Some(NodeRoute {
            mtu: *self.mtu.get(&route.link)?,
            ..*route
        })
    }

    fn lost(&self, node: IpAddr) -> Option<&LinkError> {
        self.routes.get(&node)?.as_ref().err()
    }
}

async fn look(netlink: &Netlink, peers: &[Peer]) -> Result<Looked, LinkError> {
    let links = link::list(netlink).await?;
    let mtu = links.iter().map(|link| (link.index, link.mtu)).collect();
    let mut routes = BTreeMap::new();
    for node in peers.iter().flat_map(Peer::addresses) {
        routes.insert(*node, peer_route::to_node(netlink, *node).await);
    }
    Ok(Looked { routes, mtu })
}

/// The tunnel's device with its neighbours, if the plan needs one.
async fn tunnel_for(
    netns: &Netns,
    netlink: &Netlink,
    own: &Own,
    plan: &Plan,
) -> Result<Option<u32>, crate::Error> {
    let (Some(mtu), Some(identity)) = (plan.mtu, own.addresses.first()) else {
        return Ok(None);
    };
    let wanted = tunnel::Wanted {
        port: own.vxlan.port,
        mtu,
        mac: tunnel::mac(*identity),
    };
    let (device, is_new) = tunnel::ensure(netlink, &wanted).await?;
    if is_new {
        info!(
            link = TUNNEL_LINK,
            port = wanted.port,
            mtu,
            "tunnel to other nodes"
        );
    }
    let ipv6 = plan.routes.keys().any(|(_, to)| to.addr().is_ipv6());
    netns.run(|| sysctl::at_tunnel(TUNNEL_LINK, ipv6))??;
    let present = neighbours::list(netlink, device).await?;
    for (ip, mac) in &plan.neighbours {
        if present.get(ip).map(|(mac, _)| mac) != Some(mac) {
            neighbours::put(netlink, device, *ip, *mac).await?;
        }
    }
    Ok(Some(device))
}

async fn put_all(
    netlink: &Netlink,
    own: &Own,
    plan: &Plan,
    present: &BTreeMap<Key, PeerRoute>,
    device: Option<u32>,
    outcome: &mut Outcome,
) {
    for (key, hop) in &plan.routes {
        let in_tunnel = matches!(hop, Hop::Tunnel(_));
        // There was an error already.
        if in_tunnel && device.is_none() || is_there(present.get(key), hop, device) {
            continue;
        }
        let v4 = key.1.addr().is_ipv4();
        let mut sources = own.addresses.iter().filter(|own| own.is_ipv4() == v4);
        let put = peer_route::put(netlink, *key, hop, device, sources.next().copied()).await;
        outcome.new += usize::from(outcome.take(put).is_some());
    }
}

fn is_there(present: Option<&PeerRoute>, hop: &Hop, device: Option<u32>) -> bool {
    let on_device = |route: &PeerRoute| match hop {
        Hop::Direct(_) => true,
        Hop::Tunnel(_) => route.link == device,
    };
    present.is_some_and(|route| route.hop == *hop && on_device(route))
}

async fn remove_others(
    netlink: &Netlink,
    plan: &Plan,
    present: &BTreeMap<Key, PeerRoute>,
    device: Option<u32>,
    outcome: &mut Outcome,
) {
    let is_lost = |to: &IpNet| plan.lost.iter().any(|(lost, _)| lost == to);
    for (key, route) in present {
        if !plan.routes.contains_key(key) && !is_lost(&key.1) {
            outcome.take(peer_route::delete(netlink, route).await);
        }
    }
    if !plan.lost.is_empty() {
        return;
    }
    match device {
        Some(device) => {
            let neighbours = outcome.take(neighbours::list(netlink, device).await);
            for (ip, (_, message)) in neighbours.into_iter().flatten() {
                if !plan.neighbours.contains_key(&ip) {
                    outcome.take(neighbours::delete(netlink, message).await);
                }
            }
        }
        // Where it could not be made there is nothing to remove.
        None if plan.mtu.is_none() => {
            outcome.take(tunnel::remove(netlink).await);
        }
        None => {}
    }
}

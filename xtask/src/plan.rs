//! Which networks, ports and link a cluster gets: those it had, those asked for, or free ones.

pub mod families;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub use self::families::IpFamily;
use crate::cluster::Name;
use crate::state::State;

/// The part of the pod CIDR that each node gets.
pub const NODE_MASK: u8 = 24;
const SERVICE_CIDR: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
/// How many addresses of the nodes' network load balancers may have.
const POOL: u32 = 16;
const API_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;
/// How many neighbours of a usual value are tried.
const TRIES: u8 = 100;

/// What the user asked for; None is whatever is free.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    pub nodes: Option<u32>,
    pub ip_family: Option<IpFamily>,
    pub subnet: Option<Ipv4Net>,
    pub subnets: Option<u32>,
    pub pod_cidr: Option<Ipv4Net>,
    pub service_cidr: Option<Ipv4Net>,
    pub api_port: Option<u16>,
    pub insecure_registries: Vec<String>,
    pub max_pods: Option<u32>,
    pub service_proxy_name: Option<String>,
    pub node_args: Vec<String>,
}

/// What the machine already uses, this cluster's own parts left out.
pub struct Taken<'a> {
    pub networks: &'a [Ipv4Net],
    pub links: &'a BTreeSet<String>,
    /// Whether a link of it may have IPv6 addresses.
    pub ipv6: bool,
    /// Who listens on a TCP port, if anybody does.
    pub port: &'a dyn Fn(u16) -> Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "the cluster has {what} {has}, not {wanted}: `cargo xtask up --fresh` starts over with another"
    )]
    Changed {
        what: &'static str,
        has: String,
        wanted: String,
    },
    #[error(
        "{what} {network} overlaps with {other}, which this machine routes: choose another with --{flag}"
    )]
    Overlap {
        what: &'static str,
        network: Ipv4Net,
        other: Ipv4Net,
        flag: &'static str,
    },
    #[error("no free network for {what}: name one with --{flag}")]
    NoNetwork {
        what: &'static str,
        flag: &'static str,
    },
    #[error("port {port} is taken by {holder}: stop it, or choose another with --api-port{fresh}")]
    Port {
        port: u16,
        holder: String,
        fresh: &'static str,
    },
    #[error("no free port from {first} on: stop what listens there")]
    NoPort { first: u16 },
    #[error("no free link name from vetch0 on: remove links that are left over")]
    NoLink,
    #[error("{wanted} nodes do not fit: {subnet} has room for {room}")]
    Subnet {
        wanted: u32,
        subnet: Ipv4Net,
        room: u32,
    },
    #[error("{wanted} nodes do not fit: {pod_cidr} has room for {room} of /{NODE_MASK}")]
    PodCidr {
        wanted: u32,
        pod_cidr: Ipv4Net,
        room: u32,
    },
    #[error("a cluster has at least one node")]
    NoNodes,
    #[error(
        "this machine has IPv6 switched off (net.ipv6.conf.default.disable_ipv6): leave --ip-family at ipv4"
    )]
    NoIpv6,
}

/// The machine's address on the nodes' network, which the API server listens on.
pub fn machine_address(subnet: Ipv4Net) -> Ipv4Addr {
    nth(subnet, 1)
}

/// `number` starts at 1.
pub fn node_address(subnet: Ipv4Net, number: u32) -> Ipv4Addr {
    nth(subnet, 1 + number)
}

/// The last addresses of the nodes' network that no node has, first and last; None where nodes fill it,
/// and on several links: each address is at home on one, and any node may be told to announce it.
pub fn load_balancer_pool(state: &State) -> Option<(Ipv4Addr, Ipv4Addr)> {
    (state.subnets == 1).then(|| pool(state.subnet, state.nodes))?
}

fn pool(subnet: Ipv4Net, nodes: u32) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let last = u32::from(subnet.broadcast()).checked_sub(1)?;
    let behind_nodes = u32::from(node_address(subnet, nodes)).checked_add(1)?;
    let first = behind_nodes.max(last.saturating_sub(POOL - 1));
    (first <= last).then(|| (first.into(), last.into()))
}

fn nth(subnet: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(offset))
}

pub fn decide(
    name: &Name,
    wishes: &Wishes,
    before: Option<&State>,
    taken: &Taken<'_>,
) -> Result<State, PlanError> {
    let subnets = (0..=255).map(|third| Ipv4Net::new_assert(Ipv4Addr::new(172, 30, third, 0), 24));
    let pod_cidrs =
        (244..=254).map(|second| Ipv4Net::new_assert(Ipv4Addr::new(10, second, 0, 0), 16));
    let subnet = network(
        ("the nodes' network", "subnet"),
        wishes.subnet,
        before.map(|state| state.subnet),
        subnets,
        taken.networks,
    )?;
    let subnets = kept(
        "number of the nodes' links",
        wishes.subnets,
        before.map(|state| state.subnets),
    )?
    .unwrap_or(1);
    let pod_cidr = network(
        ("the pods' network", "pod-cidr"),
        wishes.pod_cidr,
        before.map(|state| state.pod_cidr),
        pod_cidrs,
        taken.networks,
    )?;
    if overlap(subnet, pod_cidr) {
        return Err(PlanError::Overlap {
            what: "the pods' network",
            network: pod_cidr,
            other: subnet,
            flag: "pod-cidr",
        });
    }
    let service_cidr = kept(
        "Services' network",
        wishes.service_cidr.map(|wanted| wanted.trunc()),
        before.map(|state| state.service_cidr),
    )?
    .unwrap_or(SERVICE_CIDR);
    let api_port = api_port(
        wishes.api_port,
        before.map(|state| state.api_port),
        name,
        taken,
    )?;
    // Each keeps its port when the other has to move.
    let peer = before.map(|state| state.etcd_peer_port);
    let besides: Vec<u16> = peer.into_iter().chain([api_port]).collect();
    let etcd_client_port = free_port(
        before.map(|state| state.etcd_client_port),
        ETCD_PORT,
        &besides,
        taken,
    )?;
    let etcd_peer_port = free_port(peer, ETCD_PORT, &[api_port, etcd_client_port], taken)?;
    let list = |wanted: &Vec<String>, has: fn(&State) -> &Vec<String>| match before {
        Some(before) if wanted.is_empty() => has(before).clone(),
        _ => wanted.clone(),
    };
    let ip_family = ip_family(wishes.ip_family, before, taken)?;
    let state = State {
        ip_family,
        nodes: wishes
            .nodes
            .or(before.map(|state| state.nodes))
            .unwrap_or(1),
        link: link(before.map(|state| state.link.as_str()), taken)?,
        subnet,
        subnets,
        pod_cidr,
        service_cidr,
        api_port,
        etcd_client_port,
        etcd_peer_port,
        insecure_registries: list(&wishes.insecure_registries, |state| {
            &state.insecure_registries
        }),
        max_pods: wishes.max_pods.or(before.and_then(|state| state.max_pods)),
        service_proxy_name: (wishes.service_proxy_name.clone())
            .or_else(|| before.and_then(|state| state.service_proxy_name.clone())),
        node_args: list(&wishes.node_args, |state| &state.node_args),
        moved: before.map_or_else(Default::default, |state| state.moved.clone()),
    };
    check_room(&state)?;
    Ok(state)
}

/// Nodes keep their pods' ranges, so a cluster keeps its families.
fn ip_family(
    wanted: Option<IpFamily>,
    before: Option<&State>,
    taken: &Taken<'_>,
) -> Result<IpFamily, PlanError> {
    match kept("IP family", wanted, before.map(|state| state.ip_family))? {
        Some(family) if family.has_v6() && !taken.ipv6 => Err(PlanError::NoIpv6),
        Some(family) => Ok(family),
        None if taken.ipv6 => Ok(IpFamily::Dual),
        None => Ok(IpFamily::Ipv4),
    }
}

/// What the cluster has may not change under its data.
fn kept<T: PartialEq + ToString>(
    what: &'static str,
    wanted: Option<T>,
    has: Option<T>,
) -> Result<Option<T>, PlanError> {
    match (wanted, has) {
        (Some(wanted), Some(has)) if wanted != has => Err(PlanError::Changed {
            what,
            has: has.to_string(),
            wanted: wanted.to_string(),
        }),
        (wanted, has) => Ok(has.or(wanted)),
    }
}

fn network(
    (what, flag): (&'static str, &'static str),
    wanted: Option<Ipv4Net>,
    has: Option<Ipv4Net>,
    mut candidates: impl Iterator<Item = Ipv4Net>,
    taken: &[Ipv4Net],
) -> Result<Ipv4Net, PlanError> {
    let hit = |network: Ipv4Net| taken.iter().copied().find(|other| overlap(network, *other));
    match kept(what, wanted.map(|wanted| wanted.trunc()), has)? {
        Some(network) => match hit(network) {
            Some(other) => Err(PlanError::Overlap {
                what,
                network,
                other,
                flag,
            }),
            None => Ok(network),
        },
        None => candidates
            .find(|network| hit(*network).is_none())
            .ok_or(PlanError::NoNetwork { what, flag }),
    }
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn api_port(
    wanted: Option<u16>,
    has: Option<u16>,
    name: &Name,
    taken: &Taken<'_>,
) -> Result<u16, PlanError> {
    match kept("API port", wanted, has)? {
        Some(port) => match (taken.port)(port) {
            Some(holder) => Err(PlanError::Port {
                port,
                holder,
                fresh: if has.is_some() { " and --fresh" } else { "" },
            }),
            None => Ok(port),
        },
        // Other clusters leave the usual port to the default one.
        None if *name == Name::default() => free_port(None, API_PORT, &[], taken),
        None => free_port(None, API_PORT + 1, &[], taken),
    }
}

/// `has` if it is still free, else the next free one from `first` on.
fn free_port(
    has: Option<u16>,
    first: u16,
    besides: &[u16],
    taken: &Taken<'_>,
) -> Result<u16, PlanError> {
    let near = first..first.saturating_add(u16::from(TRIES));
    has.into_iter()
        .chain(near)
        .find(|port| !besides.contains(port) && (taken.port)(*port).is_none())
        .ok_or(PlanError::NoPort { first })
}

fn link(has: Option<&str>, taken: &Taken<'_>) -> Result<String, PlanError> {
    has.map(str::to_owned)
        .into_iter()
        .chain((0..TRIES).map(|number| format!("vetch{number}")))
        .find(|name| !taken.links.contains(name))
        .ok_or(PlanError::NoLink)
}

fn check_room(state: &State) -> Result<(), PlanError> {
    let (wanted, subnet, pod_cidr) = (state.nodes, state.subnet, state.pod_cidr);
    if wanted == 0 {
        return Err(PlanError::NoNodes);
    }
    let room = state.segments().room();
    if wanted > room {
        return Err(PlanError::Subnet {
            wanted,
            subnet,
            room,
        });
    }
    let room = match NODE_MASK.checked_sub(pod_cidr.prefix_len()) {
        Some(bits) => 1_u32.checked_shl(bits.into()).unwrap_or(u32::MAX),
        None => 0,
    };
    if wanted > room {
        return Err(PlanError::PodCidr {
            wanted,
            pod_cidr,
            room,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

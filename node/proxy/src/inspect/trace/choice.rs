//! Whether it is for a service, and which backends it may get.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use vetch_ebpf_common::{Address, From, Frontend as FrontendValue, List, addresses, one_of};

use super::Snapshot;
use crate::{
    diff::Pointer,
    maps::terms,
    model::{Backend, Balance, Frontend},
};

/// As the programs' `find` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    NotAService,
    Frontend(Pointer),
    /// The address is a service's, and the port is none of its.
    UnknownPort,
}

/// A backend, with how many of how many slots are its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub address: SocketAddr,
    pub slots: [usize; 2],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// And why these.
    Of(String, Vec<Candidate>),
    NoEndpoints,
    NoLocalEndpoints,
}

impl Snapshot {
    /// `loopback_is_node` is for the node's processes.
    pub fn find(&self, dialled: Option<Frontend>, loopback_is_node: bool) -> Found {
        let Some(dialled) = dialled else {
            return Found::NotAService;
        };
        let is_loopback = dialled.addr.is_loopback();
        if is_loopback && !loopback_is_node {
            return Found::NotAService;
        }
        let at = |frontend: Frontend| self.services.frontends.get(&frontend).copied();
        if let Some(to) = at(dialled) {
            return Found::Frontend(to);
        }
        if is_loopback || self.is(dialled.addr, addresses::NODE) {
            let any = match dialled.addr {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let node_port = at(Frontend {
                addr: any,
                ..dialled
            });
            return node_port.map_or(Found::NotAService, Found::Frontend);
        }
        if self.is(dialled.addr, addresses::SERVICE) {
            return Found::UnknownPort;
        }
        Found::NotAService
    }

    pub fn in_ranges(&self, to: &Pointer, client: IpAddr) -> bool {
        let target = self.services.services.get(&to.service);
        target.is_some_and(|target| {
            let mut ranges = target.source_ranges.iter();
            ranges.any(|range| range.contains(&client))
        })
    }

    /// As the programs' `balance` does. `seed` is the client's, where it has one: of a
    /// socket it is the kernel's number of it, which nobody knows before.
    pub fn choose(&self, to: &Pointer, from: From, client: Address, seed: Option<u32>) -> Chosen {
        let Some(target) = self.services.services.get(&to.service) else {
            return Chosen::NoEndpoints;
        };
        let frontend = FrontendValue::new(to.service, to.exposure.flags());
        let list = terms(target).list(&frontend, from);
        let (name, slots) = match list {
            List::Cluster => ("the cluster's", &target.cluster),
            List::Local => ("this node's own", &target.local),
        };
        let service = to.service;
        if target.affinity.is_some()
            && let Some(backend) = self.affinity.get(&(client, service))
            && slots.contains(backend)
        {
            let why =
                format!("service {service}: the backend that the client had (session affinity)");
            return Chosen::Of(why, vec![candidate(backend, slots)]);
        }
        if slots.is_empty() {
            return match list {
                List::Local if !target.cluster.is_empty() => Chosen::NoLocalEndpoints,
                _ => Chosen::NoEndpoints,
            };
        }
        if target.balance == Balance::Maglev
            && let Some(seed) = seed
        {
            let slot = one_of(seed, u32::try_from(slots.len()).unwrap_or(u32::MAX));
            let backend = &slots[slot as usize];
            let why = format!("service {service}: {name} list, by the client's address (maglev)");
            return Chosen::Of(why, vec![candidate(backend, slots)]);
        }
        let mut backends: BTreeMap<Backend, Candidate> = BTreeMap::new();
        for backend in slots {
            let known = backends.entry(*backend);
            known.or_insert_with(|| candidate(backend, slots));
        }
        let how = match target.balance {
            Balance::Random => "by chance",
            Balance::Maglev => "by the socket (maglev)",
            Balance::Least => "of two by chance the one with fewer connections",
        };
        let count = backends.len();
        let why = format!("service {service}: {name} list of {count} backends, {how}");
        Chosen::Of(why, backends.into_values().collect())
    }
}

fn candidate(backend: &Backend, slots: &[Backend]) -> Candidate {
    let own = slots.iter().filter(|slot| *slot == backend).count();
    Candidate {
        address: SocketAddr::new(backend.addr, backend.port),
        slots: [own, slots.len()],
    }
}

//! Services, EndpointSlices and host ports → what the maps should hold. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use vetch_ebpf_common::Protocol;

use crate::model::{Balance, Exposure, Frontend, ServicePort, Target};
use endpoints::{Candidate, Needs};

mod endpoints;
mod host_port;
mod maglev;
mod own;
mod problem;
mod service;
mod slice;
#[cfg(test)]
mod tests;
mod weight;

pub use host_port::host_ports;
pub use own::OwnService;
pub use problem::Problem;
pub use service::Service;
pub use slice::{Slice, local_ready};

/// What one service asks of the maps, and what of it cannot be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// One for each port and family.
    pub ports: Vec<ServicePort>,
    pub problems: BTreeSet<Problem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

/// A port whose slices are not there yet has no backends, and calls to it are
/// refused. `zone` is this node's.
pub fn wanted<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    zone: Option<&str>,
) -> Wanted {
    let mut wanted = Wanted {
        ports: Vec::new(),
        problems: service.problems.clone(),
    };
    if !service.ports.is_empty() {
        let problems = slices.clone().filter_map(|slice| slice.problem.clone());
        wanted.problems.extend(problems);
    }
    for port in &service.ports {
        for family in service.families() {
            let mut frontends = service.frontends(port, family);
            let mut candidates =
                endpoints::candidates(&port.name, port.protocol, family, slices.clone());
            if port.protocol == Protocol::Sctp {
                let problems = keep_ports(&mut frontends, &mut candidates, port.target);
                wanted.problems.extend(problems);
            }
            if frontends.is_empty() {
                continue;
            }
            let target = target(service, port.protocol, family, &frontends, candidates, zone);
            wanted.ports.push(ServicePort { frontends, target });
        }
    }
    wanted
}

fn target(
    service: &Service,
    protocol: Protocol,
    family: Family,
    frontends: &BTreeMap<Frontend, Exposure>,
    candidates: Vec<Candidate>,
    zone: Option<&str>,
) -> Target {
    let external = frontends.values().any(|exposure| exposure.external);
    let internal_local = service.internal_local;
    let external_local = service.external_local && external;
    let needs = Needs {
        // With policy Local too clients inside reach every endpoint by an
        // external address.
        cluster: !internal_local || external,
        local: internal_local || external_local,
        serving: Target::tracks(protocol, service.affinity, service.balance),
    };
    let lists = endpoints::choose(&candidates, zone, needs);
    let (cluster, local) = match service.balance {
        Balance::Random | Balance::Least => (lists.cluster, lists.local),
        Balance::Maglev => (maglev::table(&lists.cluster), maglev::table(&lists.local)),
    };
    let restricted = frontends.values().any(|exposure| exposure.source_ranges);
    let source_ranges = service.source_ranges.get(&family).filter(|_| restricted);
    Target {
        internal_local,
        external_local,
        affinity: service.affinity,
        balance: service.balance,
        cluster,
        local,
        serving: lists.serving,
        source_ranges: source_ranges.cloned().unwrap_or_default(),
    }
}

/// The checksum of SCTP covers the whole packet, so nobody on the way changes a
/// port: what is left are the frontends and endpoints of one port number.
/// `declared` is the service's own word, for as long as there is no endpoint.
fn keep_ports(
    frontends: &mut BTreeMap<Frontend, Exposure>,
    candidates: &mut Vec<Candidate>,
    declared: Option<u16>,
) -> Vec<Problem> {
    let mut targets: BTreeSet<u16> = candidates.iter().map(|one| one.backend.port).collect();
    if targets.is_empty() {
        targets.extend(declared);
    }
    if targets.is_empty() {
        return Vec::new();
    }
    let dialled: BTreeSet<u16> = frontends.keys().map(|frontend| frontend.port).collect();
    let pairs = dialled
        .iter()
        .flat_map(|port| targets.iter().map(|target| (*port, *target)));
    let problems = pairs
        .filter(|(port, target)| port != target)
        .map(|(port, target)| Problem::SctpPort { port, target })
        .collect();
    let kept = dialled.intersection(&targets).next().copied();
    frontends.retain(|frontend, _| Some(frontend.port) == kept);
    candidates.retain(|one| Some(one.backend.port) == kept);
    problems
}

impl Family {
    fn of(addr: IpAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Stands for every address of the node.
    fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

/// An IPv4 address in IPv6's clothes is an IPv4 address, as for Kubernetes.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|addr: IpAddr| addr.to_canonical())
}

//! What the kernel's maps hold, for people and their tools: read from the
//! pinned maps, so that it is true whether a daemon runs or not.

mod drops;
mod events;
mod flows;
mod latency;
mod memory;
mod paths;
mod policies;
mod services;
mod trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::maps::MapError;
use vetch_ebpf_common::{Traffic, maps};

use crate::{
    Error, Frontend,
    counters::{Latencies, TrafficCounters, reasons},
    diff::ServiceId,
    maps::{LiveCounts, Maps, MapsError},
    model::{Backend, Balance},
    programs::maps_dir,
};

pub use drops::{Dropped, Drops};
pub use events::{Events, FlowEvent, FlowFilter, Verdict};
pub use flows::{Flow, flow_protocol};
pub use latency::ConnectLatency;
pub use memory::{Memory, MemoryMap};
pub use paths::{LinkPath, LinkProgram, Paths, PodPaths, read as paths};
pub use policies::{HeldDecision, HeldPod, HeldPodDetail, HeldRule, HeldTiers};
pub use services::{Service, ServiceBackend, ServiceDetail};
pub use trace::{Hop, Opening, Outcome, Question, Trace, Way, read::read as trace};

/// Every frontend with what it leads to.
pub fn services(pin_dir: &Path) -> Result<Vec<Service>, Error> {
    let dir = maps_dir(pin_dir);
    let current = Maps::open(&dir)?.read()?;
    let traffic = traffic(&dir)?;
    Ok(services::list(&current, &traffic))
}

/// One frontend and its backends; None if nobody is served there.
pub fn service(pin_dir: &Path, frontend: Frontend) -> Result<Option<ServiceDetail>, Error> {
    let dir = maps_dir(pin_dir);
    let current = Maps::open(&dir)?.read()?;
    let traffic = traffic(&dir)?;
    let Some(mut shown) = services::show(&current, &traffic, frontend) else {
        return Ok(None);
    };
    let number = shown.service.service;
    shown.connect_latency = Latencies::open(&dir)
        .and_then(|latencies| latencies.of(number))
        .map_err(read_error(maps::LATENCIES))?
        .and_then(|latency| latency::summary(&latency));
    if shown.service.balance == Balance::Least.as_str() {
        let counts = LiveCounts::open(&dir)?;
        for backend in &mut shown.backends {
            let (addr, port) = (backend.address.ip(), backend.address.port());
            backend.live_connections = Some(counts.of(number, Backend { addr, port })?);
        }
    }
    Ok(Some(shown))
}

/// Conversations that are balanced by the packet. Those of sockets have none:
/// their backend was chosen at `connect()`, and the kernel knows the rest.
pub fn flows(pin_dir: &Path) -> Result<Vec<Flow>, Error> {
    Ok(flows::read(&maps_dir(pin_dir)).map_err(read_error(maps::FLOWS))?)
}

/// Calls and packets that did not get through, one by one.
pub fn drops(pin_dir: &Path) -> Result<Drops, Error> {
    let name = maps::EVENTS.to_owned();
    let opened = Drops::open(&maps_dir(pin_dir));
    Ok(opened.map_err(|source| MapsError::Inspect { name, source })?)
}

/// Those, and what begins while somebody follows.
pub fn events(pin_dir: &Path) -> Result<Events, Error> {
    let name = maps::BEGINNINGS.to_owned();
    let opened = Events::open(&maps_dir(pin_dir));
    Ok(opened.map_err(|source| MapsError::Inspect { name, source })?)
}

/// The numbers of the service-ports that answer there.
pub fn numbers(pin_dir: &Path, frontends: &[Frontend]) -> Result<BTreeSet<ServiceId>, Error> {
    let served = crate::maps::frontends(&maps_dir(pin_dir))?;
    let numbers = frontends.iter().filter_map(|one| served.get(one));
    Ok(numbers.map(|to| to.service).collect())
}

/// How NetworkPolicies hold each pod's address of this node.
pub fn policies(pin_dir: &Path) -> Result<Vec<HeldPod>, Error> {
    let (pods, contents) = policies::read(&maps_dir(pin_dir))?;
    Ok(policies::list(&pods, &contents))
}

/// One of them with its rules; None if no pod here has the address.
pub fn policy(pin_dir: &Path, address: std::net::IpAddr) -> Result<Option<HeldPodDetail>, Error> {
    let (pods, contents) = policies::read(&maps_dir(pin_dir))?;
    let words = policies::words(pin_dir);
    Ok(policies::show(&pods, &contents, &words, address))
}

/// Each map with its size, and the reasons' counters.
pub fn memory(pin_dir: &Path) -> Result<Memory, Error> {
    let dir = maps_dir(pin_dir);
    let current = Maps::open(&dir)?.read()?;
    Ok(Memory {
        maps: memory::read(&dir, &current)?,
        reasons: reasons(&dir)
            .map_err(read_error(maps::REASONS))?
            .into_iter()
            .map(|(reason, count)| (reason.as_str(), count))
            .collect(),
    })
}

fn traffic(maps_dir: &Path) -> Result<BTreeMap<ServiceId, Traffic>, MapsError> {
    TrafficCounters::open(maps_dir)
        .and_then(|counters| counters.read())
        .map_err(read_error(maps::TRAFFIC))
}

fn read_error(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Read {
        name,
        source: Box::new(error),
    }
}

//! What the programs tell of single calls and packets: what did not get through, and,
//! while somebody follows, what begins.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::{HashMap, MapData, MapError};
use jiff::Timestamp;
use serde::Serialize;
use vetch_ebpf_common::{Address, Beginning, Endpoint, Event, EventKind, maps};

use super::drops::{self, Callers, Dropped, Drops};
use crate::{
    counters,
    diff::ServiceId,
    maps::hash,
    model::Backend,
    notes::Notes,
    ring::{Reader, Ring},
    sys,
};

mod filter;

pub use filter::{FlowFilter, Verdict};

/// A call or a packet that did not get through, or with which a conversation began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEvent {
    pub time: Timestamp,
    /// What became of it.
    pub verdict: Verdict,
    /// Why it did not get through, as the counters name it.
    pub reason: Option<&'static str>,
    /// The program: `connect`, `sendmsg`, `from_pod`, …
    pub hook: &'static str,
    /// By name, or by its IP number.
    pub protocol: Option<String>,
    /// Of a call the pod's that made it; None of the node's processes.
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    /// Who it is to the policies of this node's pods: `policy show` has the numbers.
    pub source_identity: Option<u32>,
    /// As it was dialled.
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    /// Of the backend, if one was given.
    pub destination_identity: Option<u32>,
    pub backend: Option<SocketAddr>,
    /// From whom the other end sees it come, if that is not the source.
    pub seen_as: Option<SocketAddr>,
    /// The service-port's number, if it was for one.
    pub service: Option<ServiceId>,
    /// The interface of a packet.
    pub ifindex: Option<u32>,
}

/// Reads them, oldest first, and leaves them to other readers.
pub struct Events {
    drops: Drops,
    beginnings: Reader,
    identities: HashMap<MapData, Address, u32>,
    notes: Notes,
    maps_dir: PathBuf,
}

impl Events {
    pub fn open(maps_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            drops: Drops::open(maps_dir)?,
            beginnings: Reader::new(Ring::of(maps_dir, maps::BEGINNINGS)?),
            identities: hash(maps_dir, maps::IDENTITIES).map_err(io::Error::other)?,
            notes: Notes::open(maps_dir).map_err(io::Error::other)?,
            maps_dir: maps_dir.to_owned(),
        })
    }

    /// Has the programs tell of what begins, for three seconds: to be repeated as long
    /// as somebody looks.
    pub fn follow(&mut self) -> Result<(), MapError> {
        self.notes.follow()
    }

    /// Those since the last call, and before the first all that are kept. Also makes
    /// room for new ones.
    pub fn read(&mut self) -> Vec<FlowEvent> {
        let drops = self.drops.read();
        let begun: Vec<Beginning> = std::iter::from_fn(|| self.beginnings.read())
            // Of a shape that is not known here.
            .filter_map(|words| words.try_into().ok().map(Beginning::from_words))
            .collect();
        self.beginnings.make_room();
        let identity = |ip: Option<IpAddr>| {
            let number = self.identities.get(&Address::from(ip?), 0).ok()?;
            Some(number).filter(|number| *number != 0)
        };
        // Nobody's address is better than no event.
        let callers = if begun.is_empty() {
            Callers::new()
        } else {
            drops::callers(&self.maps_dir).unwrap_or_default()
        };
        let (now, clock) = (Timestamp::now(), sys::monotonic_ns());
        let time = |ns: u64| {
            let ago = Duration::from_nanos(clock.saturating_sub(ns));
            now.checked_sub(ago).unwrap_or(now)
        };
        let begun = begun
            .iter()
            .filter_map(|one| begun_event(one, time(one.event.time), &callers));
        let mut events: Vec<FlowEvent> = drops.into_iter().filter_map(dropped).collect();
        events.extend(begun);
        for event in &mut events {
            // What the programs did not look up, of callers and of what they turned away.
            let (source, destination) = (event.source, event.destination);
            event.source_identity = event.source_identity.or_else(|| identity(source));
            if event.backend.is_none() {
                let known = event.destination_identity;
                event.destination_identity = known.or_else(|| identity(destination));
            }
        }
        events.sort_by_key(|event| event.time);
        events
    }

    /// How many were not told of one by one, since the maps were made: drops and
    /// refusals, and what began while somebody followed.
    pub fn missed(&self) -> Result<u64, MapError> {
        Ok(self.drops.missed()? + counters::beginnings_missed(&self.maps_dir)?)
    }
}

/// None of an outcome that is not known here.
fn dropped(drop: Dropped) -> Option<FlowEvent> {
    Some(FlowEvent {
        time: drop.time,
        verdict: drop.outcome.parse().ok()?,
        reason: Some(drop.reason),
        hook: drop.hook,
        protocol: drop.protocol,
        source: drop.source,
        source_port: drop.source_port,
        source_identity: None,
        destination: drop.destination,
        destination_port: drop.destination_port,
        destination_identity: None,
        backend: None,
        seen_as: None,
        service: drop.service,
        ifindex: drop.ifindex,
    })
}

/// None of a kind that is not known here.
fn begun_event(begun: &Beginning, time: Timestamp, callers: &Callers) -> Option<FlowEvent> {
    let event = &begun.event;
    let verdict = match event.kind()? {
        EventKind::Translate => Verdict::Translate,
        EventKind::Masquerade => Verdict::Masquerade,
        EventKind::Allow => Verdict::Allow,
        EventKind::Drop | EventKind::Refusal => return None,
    };
    let (source, source_port) = drops::end(event.source());
    let (destination, destination_port) = drops::end(event.destination());
    let differs = |to: Endpoint, from: Endpoint| {
        let known = to.addr() != Address::ANY_V6;
        let Backend { addr, port } = to.into();
        (known && to != from).then(|| SocketAddr::new(addr, port))
    };
    let identity = |number: u32| Some(number).filter(|number| *number != 0);
    let [source_identity, destination_identity] = begun.identities.map(identity);
    let backend = differs(begun.to.destination(), event.destination());
    Some(FlowEvent {
        time,
        verdict,
        reason: None,
        hook: event.site()?.as_str(),
        protocol: drops::protocol(event.protocol),
        source: source.or_else(|| drops::caller(callers, event.netns, destination?)),
        source_port,
        source_identity,
        destination,
        destination_port,
        destination_identity,
        backend: backend.filter(|_| verdict == Verdict::Translate),
        seen_as: differs(begun.to.source(), event.source()),
        service: (event.service != Event::NO_SERVICE).then_some(event.service),
        ifindex: (event.ifindex != 0).then_some(event.ifindex),
    })
}

#[cfg(test)]
mod tests;

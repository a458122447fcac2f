//! Single drops and refusals, as the programs told of them in the ring buffer
//! `EVENTS`.

use std::{collections::HashMap, io, net::IpAddr, path::Path, time::Duration};

use aya::maps::MapError;
use jiff::Timestamp;
use serde::Serialize;
use vetch_ebpf_common::{Address, Endpoint, Event, EventKind, Protocol};

use crate::{
    counters,
    diff::ServiceId,
    hooks,
    model::{Backend, protocol_name},
    ring::{Reader, Ring},
    sys,
};

/// A call or a packet that did not get through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    pub time: Timestamp,
    /// `drop`, or `refusal` where the client is told.
    pub outcome: &'static str,
    /// As the counters name it.
    pub reason: &'static str,
    /// The program: `connect`, `sendmsg`, `from_pod`, …
    pub hook: &'static str,
    /// By name, or by its IP number; None of a packet that could not be read.
    pub protocol: Option<String>,
    /// Of a call the pod's that made it; None of the node's processes.
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    /// As it was dialled.
    pub destination: Option<IpAddr>,
    pub destination_port: Option<u16>,
    /// The service-port's number, if it was for one.
    pub service: Option<ServiceId>,
    /// The interface of a packet.
    pub ifindex: Option<u32>,
}

/// Reads them, oldest first, and leaves them to other readers.
#[derive(Debug)]
pub struct Drops {
    reader: Reader,
    maps_dir: std::path::PathBuf,
}

impl Drops {
    pub fn open(maps_dir: &Path) -> io::Result<Self> {
        Ok(Self {
            reader: Reader::new(Ring::open(maps_dir)?),
            maps_dir: maps_dir.to_owned(),
        })
    }

    /// Those since the last call, and before the first all that are kept. Also
    /// makes room for new ones, as the daemon does.
    pub fn read(&mut self) -> Vec<Dropped> {
        let events: Vec<Event> = std::iter::from_fn(|| self.reader.read())
            // Of a shape that is not known here.
            .filter_map(|words| words.try_into().ok().map(Event::from_words))
            .collect();
        self.reader.make_room();
        if events.is_empty() {
            return Vec::new();
        }
        // Nobody's address is better than none of the drops.
        let callers = callers(&self.maps_dir).unwrap_or_default();
        let (now, clock) = (Timestamp::now(), sys::monotonic_ns());
        let time = |ns: u64| {
            let ago = Duration::from_nanos(clock.saturating_sub(ns));
            now.checked_sub(ago).unwrap_or(now)
        };
        events
            .iter()
            .filter_map(|event| dropped(event, time(event.time), &callers))
            .collect()
    }

    /// How many were counted and not told of one by one, since the maps were
    /// made.
    pub fn missed(&self) -> Result<u64, MapError> {
        counters::events_missed(&self.maps_dir)
    }
}

/// The addresses of pods by their network namespaces.
pub(super) type Callers = HashMap<u64, Vec<IpAddr>>;

pub(super) fn callers(maps_dir: &Path) -> Result<Callers, hooks::TableError> {
    let mut callers = Callers::new();
    for (address, pod) in hooks::pods(maps_dir)? {
        callers.entry(pod.netns).or_default().push(address.into());
    }
    Ok(callers)
}

/// None of a kind that is not known here.
fn dropped(event: &Event, time: Timestamp, callers: &Callers) -> Option<Dropped> {
    let outcome = match event.kind()? {
        kind @ (EventKind::Drop | EventKind::Refusal) => kind.as_str(),
        EventKind::Translate | EventKind::Masquerade | EventKind::Allow => return None,
    };
    let (source, source_port) = end(event.source());
    let (destination, destination_port) = end(event.destination());
    let caller = || caller(callers, event.netns, destination?);
    Some(Dropped {
        time,
        outcome,
        reason: event.reason()?.as_str(),
        hook: event.site()?.as_str(),
        protocol: protocol(event.protocol),
        source: source.or_else(caller),
        source_port,
        destination,
        destination_port,
        service: (event.service != Event::NO_SERVICE).then_some(event.service),
        ifindex: (event.ifindex != 0).then_some(event.ifindex),
    })
}

/// The address of the pod whose namespace it is, of the family that it dialled.
pub(super) fn caller(callers: &Callers, netns: u64, dialled: IpAddr) -> Option<IpAddr> {
    let own = callers.get(&netns)?.iter();
    own.copied().find(|ip| ip.is_ipv4() == dialled.is_ipv4())
}

/// By name, or by its IP number.
pub(super) fn protocol(number: u8) -> Option<String> {
    match (Protocol::try_from(number), number) {
        (Ok(protocol), _) => Some(protocol_name(protocol).to_owned()),
        (Err(_), 0) => None,
        (Err(_), number) => Some(number.to_string()),
    }
}

pub(super) fn end(endpoint: Endpoint) -> (Option<IpAddr>, Option<u16>) {
    let Backend { addr, port } = endpoint.into();
    let known = endpoint.addr() != Address::ANY_V6;
    (known.then_some(addr), (port != 0).then_some(port))
}

#[cfg(test)]
mod tests {
    use vetch_ebpf_common::{Reason, Site};

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let time: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pod: IpAddr = "10.244.1.2".parse().unwrap();
        let callers = Callers::from([(7, vec!["fd00::2".parse().unwrap(), pod])]);
        let vip = Address::v4([10, 96, 0, 1]);
        let refused = Event {
            netns: 7,
            dst: vip,
            dport: 80_u16.to_be_bytes(),
            protocol: 6,
            ..Event::new(EventKind::Refusal, Reason::UnknownPort, Site::Connect, 1)
        };
        let expected = Dropped {
            time,
            outcome: "refusal",
            reason: "unknown-port",
            hook: "connect",
            protocol: Some("TCP".into()),
            source: Some(pod),
            source_port: None,
            destination: Some("10.96.0.1".parse().unwrap()),
            destination_port: Some(80),
            service: None,
            ifindex: None,
        };
        assert_eq!(dropped(&refused, time, &callers), Some(expected.clone()));
        let nodes = Event {
            netns: 8,
            ..refused
        };
        let expected = Dropped {
            source: None,
            ..expected
        };
        assert_eq!(dropped(&nodes, time, &callers), Some(expected));
        let dropped = Event {
            src: Address::v4([192, 0, 2, 1]),
            dst: vip,
            sport: [0, 5],
            ifindex: 3,
            service: 0,
            protocol: 89,
            ..Event::new(EventKind::Drop, Reason::SourcePorts, Site::FromNet, 1)
        };
        let dropped = super::dropped(&dropped, time, &callers).unwrap();
        assert_eq!((dropped.outcome, dropped.hook), ("drop", "from_net"));
        assert_eq!(dropped.protocol.as_deref(), Some("89"));
        assert_eq!(dropped.source, Some("192.0.2.1".parse().unwrap()));
        assert_eq!((dropped.service, dropped.ifindex), (Some(0), Some(3)));
        assert_eq!(dropped.source_port, Some(5));
        // Of a younger program.
        let words = [0, 0, 0, 0, 0, 0, 0, u64::MAX];
        assert_eq!(
            super::dropped(&Event::from_words(words), time, &callers),
            None
        );
    }
}

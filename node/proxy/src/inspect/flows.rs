//! Conversations in the map `FLOWS`.

use std::{net::SocketAddr, path::Path};

use aya::maps::{HashMap, Map, MapData, MapError};
use serde::Serialize;
use vetch_ebpf_common::{Direction, Endpoint, Event, Flow as Entry, Protocol, Tuple, maps};

use crate::{
    diff::ServiceId,
    model::{Backend, protocol_name},
    sys,
};

/// A client's conversation with a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    pub protocol: &'static str,
    pub client: SocketAddr,
    /// The service's address, as the client dialled it.
    pub dialled: SocketAddr,
    pub backend: SocketAddr,
    /// What the backend sees the client as, if it is not the client's address.
    pub translated: Option<SocketAddr>,
    /// None of one that another node's load balancer has sent here, which is known there, and of one
    /// with a host outside the cluster.
    pub service: Option<ServiceId>,
    /// The backend's node answers the client itself.
    pub direct: bool,
    /// `new`, `answered`, `closing`, `closed`.
    pub state: &'static str,
    pub idle_seconds: u64,
    /// When it is forgotten if it stays idle.
    pub lifetime_seconds: u64,
}

/// By protocol, client and what was dialled.
pub fn read(maps_dir: &Path) -> Result<Vec<Flow>, MapError> {
    let map = MapData::from_pin(maps_dir.join(maps::FLOWS))?;
    let map: HashMap<_, Tuple, Entry> = HashMap::try_from(Map::LruHashMap(map))?;
    let now = sys::monotonic_ns();
    let mut flows = Vec::new();
    for entry in map.iter() {
        match entry {
            Ok((key, entry)) => flows.push(flow(&key, &entry, now)),
            // Dropped by the kernel while we read.
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    flows.sort();
    flows.dedup();
    Ok(flows)
}

/// Each direction has an entry, and either tells all: one that has lost its
/// twin is shown too.
fn flow(key: &Tuple, entry: &Entry, now: u64) -> Flow {
    let (key, entry) = match entry.direction() {
        Direction::Original => (*key, *entry),
        Direction::Reply => entry.twin(key),
    };
    let (client, seen) = (key.source(), entry.to.source());
    const SECOND: u64 = 1_000_000_000;
    Flow {
        protocol: flow_protocol(key.protocol),
        client: socket(client),
        dialled: socket(key.destination()),
        backend: socket(entry.to.destination()),
        translated: (seen != client).then(|| socket(seen)),
        service: (entry.service != Event::NO_SERVICE).then_some(entry.service),
        direct: entry.is_direct(),
        state: entry.state.phase().as_str(),
        idle_seconds: now.saturating_sub(entry.seen) / SECOND,
        lifetime_seconds: entry.state.lifetime(key.protocol) / SECOND,
    }
}

/// Of a flow; an echo's identifier stands for a port.
pub fn flow_protocol(number: u8) -> &'static str {
    match Protocol::try_from(number) {
        Ok(protocol) => protocol_name(protocol),
        Err(_) if number == 58 => "ICMPv6",
        Err(_) => "ICMP",
    }
}

fn socket(endpoint: Endpoint) -> SocketAddr {
    let Backend { addr, port } = endpoint.into();
    SocketAddr::new(addr, port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_a_tunnel() {
        let key = tuple("192.0.2.9:40000", "10.96.0.1:80");
        let to = tuple("192.0.2.9:40000", "10.1.0.1:8080");
        let mut sent = Entry::new(to, 3, 1, 2, 0);
        sent.answer_directly();
        let shown = flow(&key, &sent, 0);
        assert_eq!((shown.service, shown.direct), (Some(3), true));
        let came = Entry::new(to, Event::NO_SERVICE, 0, 2, 0);
        let shown = flow(&key, &came, 0);
        assert_eq!((shown.service, shown.direct), (None, false));
    }

    #[test]
    fn what_leaves_the_cluster() {
        let host = |text: &str, number| {
            let end: SocketAddr = format!("{text}:{number}").parse().unwrap();
            Endpoint::new(end.ip().into(), end.port().to_be_bytes())
        };
        for (protocol, port, name) in [(17, 53, "UDP"), (1, 0, "ICMP"), (58, 0, "ICMPv6")] {
            let far = host("203.0.113.7", port);
            let key = Tuple::new(host("10.1.0.1", 40000), far, protocol);
            let to = Tuple::new(host("192.0.2.1", 61000), far, protocol);
            let mut entry = Entry::new(to, Event::NO_SERVICE, 0, 0, 0);
            entry.cross_border();
            let (twin_key, twin) = entry.twin(&key);
            let shown = flow(&twin_key, &twin, 0);
            assert_eq!(shown, flow(&key, &entry, 0));
            assert_eq!((shown.protocol, shown.service), (name, None));
            assert_eq!(shown.translated, "192.0.2.1:61000".parse().ok());
        }
    }

    fn tuple(src: &str, dst: &str) -> Tuple {
        let endpoint = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            Endpoint::new(address.ip().into(), address.port().to_be_bytes())
        };
        Tuple::new(endpoint(src), endpoint(dst), Protocol::Tcp as u8)
    }

    #[test]
    fn either_direction_tells_all() {
        const ACK: u8 = 16;
        const FIN: u8 = 1;
        let key = tuple("192.0.2.9:40000", "10.96.0.1:80");
        for (to, translated) in [
            (tuple("192.0.2.9:40000", "10.1.0.1:8080"), None),
            (
                tuple("192.0.2.1:61000", "10.1.0.1:8080"),
                Some("192.0.2.1:61000".parse().unwrap()),
            ),
        ] {
            let new = Entry::new(to, 3, 1, 2, 5_000_000_000);
            for (flags, state) in [
                (None, "new"),
                (Some(ACK), "answered"),
                (Some(FIN), "closing"),
            ] {
                let mut entry = new;
                if let Some(flags) = flags {
                    entry.state = entry.state.after(Direction::Reply, flags);
                }
                let shown = flow(&key, &entry, 8_500_000_000);
                let (twin_key, twin) = entry.twin(&key);
                assert_eq!(flow(&twin_key, &twin, 8_500_000_000), shown);
                assert_eq!(
                    shown,
                    Flow {
                        protocol: "TCP",
                        client: "192.0.2.9:40000".parse().unwrap(),
                        dialled: "10.96.0.1:80".parse().unwrap(),
                        backend: "10.1.0.1:8080".parse().unwrap(),
                        translated,
                        service: Some(3),
                        direct: false,
                        state,
                        idle_seconds: 3,
                        lifetime_seconds: entry.state.lifetime(6) / 1_000_000_000,
                    }
                );
            }
        }
    }
}

//! How many live connections each backend has, where that decides who gets the
//! next one. The programs count; what they cannot see is put right here.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::maps::{HashMap, Map, MapData, MapError};
use vetch_ebpf_common::{BackendKey, Direction, Flow, Live, Tuple, maps};

use super::{MapsError, gone, hash, open_error, pinned, read_error, write_error};
use crate::{
    diff::{Current, ServiceId},
    model::{Backend, Balance},
    sys,
};

#[derive(Debug)]
pub struct Counts {
    sockets: HashMap<MapData, BackendKey, Live>,
    flows: HashMap<MapData, BackendKey, i64>,
    table: HashMap<MapData, Tuple, Flow>,
}

impl Counts {
    pub fn open(dir: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            sockets: hash(dir, maps::LIVE_SOCKETS)?,
            flows: hash(dir, maps::LIVE_FLOWS)?,
            table: HashMap::try_from(Map::LruHashMap(pinned(dir, maps::FLOWS)?))
                .map_err(open_error(maps::FLOWS))?,
        })
    }

    /// Connections of both kinds, as a choice would find them.
    pub fn of(&self, service: ServiceId, backend: Backend) -> Result<u64, MapsError> {
        let key = BackendKey::new(service, backend.into());
        let sockets = none(self.sockets.get(&key, 0)).map_err(read_error(maps::LIVE_SOCKETS))?;
        let flows = none(self.flows.get(&key, 0)).map_err(read_error(maps::LIVE_FLOWS))?;
        let count = sockets.map_or(0, |live| live.count) + flows.unwrap_or(0);
        Ok(count.max(0).unsigned_abs())
    }

    pub fn forget(&mut self, service: ServiceId, backend: Backend) -> Result<(), MapsError> {
        self.remove(&BackendKey::new(service, backend.into()))
    }

    fn remove(&mut self, key: &BackendKey) -> Result<(), MapsError> {
        let backend = || Backend::from(key.endpoint());
        gone(self.sockets.remove(key)).map_err(write_error(maps::LIVE_SOCKETS, backend()))?;
        gone(self.flows.remove(key)).map_err(write_error(maps::LIVE_FLOWS, backend()))
    }

    /// Flows end without a packet too: by their time, or because the table
    /// needs their place. One that begins or ends while this counts is
    /// forgotten until the next time.
    pub fn recount(&mut self, current: &Current) -> Result<(), MapsError> {
        let wanted = counted(current);
        let sockets = self.sockets.keys().map(read(maps::LIVE_SOCKETS));
        let flows = self.flows.keys().map(read(maps::LIVE_FLOWS));
        let known = sockets.chain(flows).collect::<Result<BTreeSet<_>, _>>()?;
        for key in known.difference(&wanted) {
            self.remove(key)?;
        }
        let mut counts = BTreeMap::new();
        for key in self.flows.keys() {
            counts.insert(key.map_err(read_error(maps::LIVE_FLOWS))?, 0);
        }
        if !counts.is_empty() {
            self.count_flows(&mut counts)?;
        }
        for (key, count) in counts {
            let backend = Backend::from(key.endpoint());
            self.flows
                .insert(key, count, 0)
                .map_err(write_error(maps::LIVE_FLOWS, backend))?;
        }
        Ok(())
    }

    fn count_flows(&self, counts: &mut BTreeMap<BackendKey, i64>) -> Result<(), MapsError> {
        let now = sys::monotonic_ns();
        for entry in self.table.iter() {
            let (key, flow) = match entry {
                // Dropped by the kernel while we read.
                Err(MapError::KeyNotFound) => continue,
                entry => entry.map_err(read_error(maps::FLOWS))?,
            };
            if let Some(backend) = live(&key, &flow, now)
                && let Some(count) = counts.get_mut(&backend)
            {
                *count += 1;
            }
        }
        Ok(())
    }
}

/// The backends that are counted.
fn counted(current: &Current) -> BTreeSet<BackendKey> {
    let services = current.services.iter();
    services
        .filter(|(_, target)| target.balance == Balance::Least)
        .flat_map(|(service, target)| {
            let key = |backend: &Backend| BackendKey::new(*service, (*backend).into());
            target.serving.iter().map(key)
        })
        .collect()
}

/// Whose live connection an entry is. One of the two that a flow has.
fn live(key: &Tuple, flow: &Flow, now: u64) -> Option<BackendKey> {
    let is_live = flow.is_counted_live()
        && flow.direction() == Direction::Original
        && !flow.state.is_closed()
        && !flow.is_over(now);
    is_live.then(|| BackendKey::new(flow.service, flow.backend(key)))
}

fn read<T>(name: &'static str) -> impl Fn(Result<T, MapError>) -> Result<T, MapsError> {
    move |value| value.map_err(read_error(name))
}

fn none<T>(value: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match value {
        Err(MapError::KeyNotFound) => Ok(None),
        value => value.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use vetch_ebpf_common::{Endpoint, State};

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let address: SocketAddr = text.parse().unwrap();
        Endpoint::new(address.ip().into(), address.port().to_be_bytes())
    }

    #[test]
    fn one_half_of_a_flow_counts_as_long_as_it_is_not_closed() {
        const SECOND: u64 = 1_000_000_000;
        let (client, backend) = (endpoint("10.1.0.1:40000"), endpoint("10.1.0.2:8080"));
        let key = Tuple::new(client, endpoint("10.96.0.1:80"), 6);
        let mut flow = Flow::new(Tuple::new(client, backend, 6), 7, 1, State::SYN, SECOND);
        assert_eq!(
            live(&key, &flow, SECOND),
            None,
            "of another kind of service"
        );
        flow.count_live();
        let counted = Some(BackendKey::new(7, backend));
        assert_eq!(live(&key, &flow, SECOND), counted);
        let (twin_key, twin) = flow.twin(&key);
        assert_eq!(live(&twin_key, &twin, SECOND), None, "the other half");
        assert_eq!(twin.backend(&twin_key), backend);
        assert_eq!(live(&key, &flow, 200 * SECOND), None, "over");
        for (flags, counted) in [
            (State::ACK, counted),
            (State::FIN, counted),
            (State::RST, None),
        ] {
            let mut flow = flow;
            flow.state = flow.state.after(Direction::Reply, flags);
            assert_eq!(live(&key, &flow, SECOND), counted, "{flags}");
        }
    }
}

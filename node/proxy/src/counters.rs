//! What the programs counted, all processors together.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use vetch_ebpf_common::{Latency, Reason, Traffic, maps};

use crate::{diff::ServiceId, maps::gone};

/// How often each reason was met, in the order of their numbers.
pub fn reasons(maps_dir: &Path) -> Result<Vec<(Reason, u64)>, MapError> {
    let map = MapData::from_pin(maps_dir.join(maps::REASONS))?;
    let map: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(map))?;
    let count = |reason: &Reason| Ok((*reason, map.get(&(*reason as u32), 0)?.iter().sum()));
    Reason::ALL.iter().map(count).collect()
}

/// How many drops and refusals were not told of by an event.
pub fn events_missed(maps_dir: &Path) -> Result<u64, MapError> {
    let map = MapData::from_pin(maps_dir.join(maps::EVENTS_MISSED))?;
    let map: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(map))?;
    Ok(map.get(&0, 0)?.iter().sum())
}

/// How much of what began while somebody followed was not told of.
pub fn beginnings_missed(maps_dir: &Path) -> Result<u64, MapError> {
    let map = MapData::from_pin(maps_dir.join(maps::BEGINNINGS_MISSED))?;
    let map: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(map))?;
    Ok(map.get(&0, 0)?.iter().sum())
}

/// Of every service-port that had a client.
pub struct TrafficCounters(PerCpuHashMap<MapData, ServiceId, Traffic>);

impl TrafficCounters {
    pub fn open(maps_dir: &Path) -> Result<Self, MapError> {
        let map = MapData::from_pin(maps_dir.join(maps::TRAFFIC))?;
        PerCpuHashMap::try_from(Map::PerCpuHashMap(map)).map(Self)
    }

    pub fn read(&self) -> Result<BTreeMap<ServiceId, Traffic>, MapError> {
        self.0
            .iter()
            .map(|entry| entry.map(|(service, values)| (service, sum(&values))))
            .collect()
    }

    /// The next service-port to have the number starts at zero.
    pub fn forget(&mut self, service: ServiceId) -> Result<(), MapError> {
        gone(self.0.remove(&service))
    }
}

/// How long connections took, of every service-port that was reached by one.
pub struct Latencies(PerCpuHashMap<MapData, ServiceId, Latency>);

impl Latencies {
    pub fn open(maps_dir: &Path) -> Result<Self, MapError> {
        let map = MapData::from_pin(maps_dir.join(maps::LATENCIES))?;
        PerCpuHashMap::try_from(Map::PerCpuHashMap(map)).map(Self)
    }

    /// None before the first connection.
    pub fn of(&self, service: ServiceId) -> Result<Option<Latency>, MapError> {
        let values = match self.0.get(&service, 0) {
            Err(MapError::KeyNotFound) => return Ok(None),
            values => values?,
        };
        let mut all = Latency::NONE;
        for value in values.iter() {
            all.merge(value);
        }
        Ok(Some(all))
    }

    /// The next service-port to have the number starts at zero.
    pub fn forget(&mut self, service: ServiceId) -> Result<(), MapError> {
        gone(self.0.remove(&service))
    }
}

impl std::fmt::Debug for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latencies").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TrafficCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrafficCounters").finish_non_exhaustive()
    }
}

fn sum(values: &PerCpuValues<Traffic>) -> Traffic {
    let mut sum = Traffic::default();
    for value in values.iter() {
        sum.add(value);
    }
    sum
}

//! The map `NOTES`: words that the daemon, the programs and whoever looks leave each
//! other.

use std::{net::IpAddr, path::Path};

use aya::maps::{Array, Map, MapData, MapError};
use vetch_ebpf_common::{
    Address, maps,
    notes::{self, LEASE, Settings, word},
};

use crate::sys;

pub struct Notes(Array<MapData, u64>);

/// How the programs were loaded, for those who read their maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedFor {
    pub settings: Settings,
    /// The node's address of either family.
    pub v4: Option<IpAddr>,
    pub v6: Option<IpAddr>,
}

impl Notes {
    pub fn open(maps_dir: &Path) -> Result<Self, MapError> {
        let map = MapData::from_pin(maps_dir.join(maps::NOTES))?;
        Array::try_from(Map::Array(map)).map(Self)
    }

    /// Has the programs tell of what begins for some seconds more.
    pub fn follow(&mut self) -> Result<(), MapError> {
        self.set(word::FOLLOWED_UNTIL, sys::monotonic_ns() + LEASE)
    }

    pub fn write(&mut self, loaded: &LoadedFor) -> Result<(), MapError> {
        for (first, ip) in [(word::NODE_V4, loaded.v4), (word::NODE_V6, loaded.v6)] {
            let [high, low] = notes::to_words(ip.map(Address::from));
            self.set(first, high)?;
            self.set(first + 1, low)?;
        }
        self.set(word::SETTINGS, loaded.settings.bits())
    }

    /// None where no daemon has written it.
    pub fn read(&self) -> Result<Option<LoadedFor>, MapError> {
        let get = |word| self.0.get(&word, 0);
        let Some(settings) = Settings::from_bits(get(word::SETTINGS)?) else {
            return Ok(None);
        };
        let address = |first| -> Result<Option<IpAddr>, MapError> {
            let words = [get(first)?, get(first + 1)?];
            Ok(notes::from_words(words).map(IpAddr::from))
        };
        Ok(Some(LoadedFor {
            settings,
            v4: address(word::NODE_V4)?,
            v6: address(word::NODE_V6)?,
        }))
    }

    fn set(&mut self, word: u32, value: u64) -> Result<(), MapError> {
        self.0.set(word, value, 0)
    }
}

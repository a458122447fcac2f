//! Ranges of addresses, in which the programs look for the longest.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use ipnet::IpNet;
use vetch_ebpf_common::Address;

use super::{MapsError, gone, mapped, net, read_error, trie, write_error};

#[derive(Debug)]
pub struct Ranges<V> {
    name: &'static str,
    map: LpmTrie<MapData, [u8; 16], V>,
}

impl<V: aya::Pod + PartialEq> Ranges<V> {
    pub fn open(dir: &Path, name: &'static str) -> Result<Self, MapsError> {
        Ok(Self {
            name,
            map: trie(dir, name)?,
        })
    }

    pub fn read(&self) -> Result<BTreeMap<IpNet, V>, MapsError> {
        let mut held = BTreeMap::new();
        for entry in self.map.iter() {
            let (key, value) = entry.map_err(read_error(self.name))?;
            let range = net(Address::from_octets(key.data()), key.prefix_len());
            held.extend(range.map(|range| (range, value)));
        }
        Ok(held)
    }

    /// New ranges first: one that is in another leaves no gap when it goes.
    /// Returns how many entries were written or removed.
    pub fn set(&mut self, ranges: &BTreeMap<IpNet, V>) -> Result<u64, MapsError> {
        let held = self.read()?;
        let key = |range: &IpNet| {
            let (address, len) = mapped(*range);
            Key::new(len, address.octets())
        };
        let mut writes = 0;
        for (range, value) in ranges {
            if held.get(range) == Some(value) {
                continue;
            }
            writes += 1;
            self.map
                .insert(&key(range), *value, 0)
                .map_err(write_error(self.name, range))?;
        }
        for range in held.keys().filter(|range| !ranges.contains_key(range)) {
            writes += 1;
            gone(self.map.remove(&key(range))).map_err(write_error(self.name, range))?;
        }
        Ok(writes)
    }
}

//! A set of ranges of addresses, in which the programs look for the longest.

use std::{collections::BTreeSet, path::Path};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use ipnet::IpNet;
use vetch_ebpf_common::Address;

use super::{MapsError, gone, mapped, net, read_error, trie, write_error};

#[derive(Debug)]
pub struct Ranges {
    name: &'static str,
    map: LpmTrie<MapData, [u8; 16], u32>,
}

impl Ranges {
    pub fn open(dir: &Path, name: &'static str) -> Result<Self, MapsError> {
        Ok(Self {
            name,
            map: trie(dir, name)?,
        })
    }

    /// New ranges first: one that is in another leaves no gap when it goes.
    /// Returns how many entries were written or removed.
    pub fn set(&mut self, ranges: &BTreeSet<IpNet>) -> Result<u64, MapsError> {
        let mut held = BTreeSet::new();
        for key in self.map.keys() {
            let key = key.map_err(read_error(self.name))?;
            held.extend(net(Address::from_octets(key.data()), key.prefix_len()));
        }
        let key = |range: &IpNet| {
            let (address, len) = mapped(*range);
            Key::new(len, address.octets())
        };
        let mut writes = 0;
        for range in ranges.difference(&held) {
            writes += 1;
            self.map
                .insert(&key(range), 1, 0)
                .map_err(write_error(self.name, range))?;
        }
        for range in held.difference(ranges) {
            writes += 1;
            gone(self.map.remove(&key(range))).map_err(write_error(self.name, range))?;
        }
        Ok(writes)
    }
}

//! The maps by which the programs know pods.
//!
//! A pod is in them only while its programs are attached: without, nobody
//! would balance its packets, and its sockets go on being balanced instead.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::{
    Pod as Plain,
    maps::{HashMap, Map, MapData, MapError},
};
use vetch_ebpf_common::{Address, Pod, maps};

use super::plan::{Place, Program};

/// What the two maps are to hold, or hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    pub pods: BTreeMap<Address, Pod>,
    /// By the cookie of the pod's network namespace.
    pub netns: BTreeMap<u64, u32>,
}

impl Tables {
    /// Of those pods that have their programs.
    pub fn of<'a>(
        pods: impl Iterator<Item = (Address, &'a Pod)>,
        attached: &BTreeSet<Place>,
    ) -> Self {
        let has = |ifindex| {
            Program::POD.iter().all(|program| {
                attached.contains(&Place {
                    program: *program,
                    ifindex,
                })
            })
        };
        let pods: BTreeMap<Address, Pod> = pods
            .filter(|(_, pod)| has(pod.ifindex))
            .map(|(address, pod)| {
                let flags = pod.flags | Pod::UDP_BY_PACKET;
                (address, Pod { flags, ..*pod })
            })
            .collect();
        Self {
            netns: pods.values().map(|pod| (pod.netns, pod.flags)).collect(),
            pods,
        }
    }

    /// What stays of these where only `others` may be.
    pub fn also_in(&self, others: &Self) -> Self {
        Self {
            pods: both(&self.pods, &others.pods),
            netns: both(&self.netns, &others.netns),
        }
    }
}

fn both<K: Ord + Copy, V: Copy + PartialEq>(
    these: &BTreeMap<K, V>,
    those: &BTreeMap<K, V>,
) -> BTreeMap<K, V> {
    let stays = these
        .iter()
        .filter(|(key, value)| those.get(key) == Some(*value));
    stays.map(|(key, value)| (*key, *value)).collect()
}

/// Keys to remove, and entries to write.
type Changes<K, V> = (Vec<K>, Vec<(K, V)>);

fn changes<K: Ord + Copy, V: Copy + PartialEq>(
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
) -> Changes<K, V> {
    let gone = from.keys().filter(|key| !to.contains_key(key)).copied();
    let new = to
        .iter()
        .filter(|(key, value)| from.get(key) != Some(*value));
    (
        gone.collect(),
        new.map(|(key, value)| (*key, *value)).collect(),
    )
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {step} the map {map}")]
pub struct TableError {
    step: &'static str,
    map: &'static str,
    #[source]
    source: Box<MapError>,
}

/// The pinned maps and what they hold.
#[derive(Debug)]
pub struct Writer {
    pods: Table<Address, Pod>,
    netns: Table<u64, u32>,
    held: Tables,
}

impl Writer {
    pub fn open(dir: &Path) -> Result<Self, TableError> {
        let mut writer = Self {
            pods: Table::open(dir, maps::PODS)?,
            netns: Table::open(dir, maps::NETNS_FLAGS)?,
            held: Tables::default(),
        };
        writer.reload()?;
        Ok(writer)
    }

    pub fn held(&self) -> &Tables {
        &self.held
    }

    /// Takes what the maps hold for the truth, whoever wrote it.
    pub fn reload(&mut self) -> Result<(), TableError> {
        self.held = Tables {
            pods: self.pods.read()?,
            netns: self.netns.read()?,
        };
        Ok(())
    }

    /// What is addressed goes before what is balanced, and comes after it.
    pub fn write(&mut self, wanted: &Tables) -> Result<(), TableError> {
        let Tables { pods, netns } = &mut self.held;
        let (gone_pods, new_pods) = changes(pods, &wanted.pods);
        let (gone_netns, new_netns) = changes(netns, &wanted.netns);
        self.pods.remove(&gone_pods, pods)?;
        self.netns.remove(&gone_netns, netns)?;
        self.netns.insert(&new_netns, netns)?;
        self.pods.insert(&new_pods, pods)
    }
}

/// The pods that the programs know, whoever wrote them.
pub fn pods(dir: &Path) -> Result<BTreeMap<Address, Pod>, TableError> {
    Table::open(dir, maps::PODS)?.read()
}

#[derive(Debug)]
struct Table<K: Plain, V: Plain> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Plain + Ord, V: Plain> Table<K, V> {
    fn open(dir: &Path, name: &'static str) -> Result<Self, TableError> {
        let opened = MapData::from_pin(dir.join(name));
        let map = opened.and_then(|data| HashMap::try_from(Map::HashMap(data)));
        Ok(Self {
            name,
            map: map.map_err(failed("open", name))?,
        })
    }

    fn read(&self) -> Result<BTreeMap<K, V>, TableError> {
        let entries: Result<_, _> = self.map.iter().collect();
        entries.map_err(failed("read", self.name))
    }

    fn remove(&mut self, keys: &[K], held: &mut BTreeMap<K, V>) -> Result<(), TableError> {
        for key in keys {
            match self.map.remove(key) {
                Err(MapError::KeyNotFound) => {}
                removed => removed.map_err(failed("remove from", self.name))?,
            }
            held.remove(key);
        }
        Ok(())
    }

    fn insert(&mut self, entries: &[(K, V)], held: &mut BTreeMap<K, V>) -> Result<(), TableError> {
        for (key, value) in entries {
            self.map
                .insert(key, value, 0)
                .map_err(failed("write to", self.name))?;
            held.insert(*key, *value);
        }
        Ok(())
    }
}

fn failed(step: &'static str, map: &'static str) -> impl FnOnce(MapError) -> TableError {
    move |source| TableError {
        step,
        map,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ifindex: u32, netns: u64, flags: u32) -> Pod {
        Pod {
            ifindex,
            netns,
            flags,
            ..Pod::default()
        }
    }

    fn address(last: u8) -> Address {
        Address::v4([10, 0, 0, last])
    }

    fn places(all: &[(Program, u32)]) -> BTreeSet<Place> {
        let place = |(program, ifindex): &(Program, u32)| Place {
            program: *program,
            ifindex: *ifindex,
        };
        all.iter().map(place).collect()
    }

    #[test]
    fn only_what_has_its_programs_is_known() {
        let pods = [
            (address(1), pod(4, 40, 0)),
            (address(2), pod(5, 50, Pod::TCP_BY_PACKET)),
            (address(3), pod(5, 50, Pod::TCP_BY_PACKET)),
            (address(4), pod(6, 60, 0)),
        ];
        let attached = places(&[
            (Program::FromPod, 4),
            (Program::FromPod, 5),
            (Program::ToPod, 5),
            (Program::ToPod, 6),
        ]);
        let tables = Tables::of(pods.iter().map(|(address, pod)| (*address, pod)), &attached);
        let flags = Pod::TCP_BY_PACKET | Pod::UDP_BY_PACKET;
        let expected = Tables {
            pods: [2, 3].map(|last| (address(last), pod(5, 50, flags))).into(),
            netns: [(50, flags)].into(),
        };
        assert_eq!(tables, expected);
        assert_eq!(tables.also_in(&Tables::default()), Tables::default());
        assert_eq!(tables.also_in(&expected), expected);
    }

    #[test]
    fn a_change_is_what_differs() {
        let from = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let to = BTreeMap::from([(2, 'b'), (3, 'd'), (4, 'e')]);
        assert_eq!(changes(&from, &to), (vec![1], vec![(3, 'd'), (4, 'e')]));
        assert_eq!(both(&from, &to), BTreeMap::from([(2, 'b')]));
        assert_eq!(changes(&to, &to), (vec![], vec![]));
    }
}

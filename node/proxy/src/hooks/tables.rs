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
    maps::{Array, HashMap, Map, MapData, MapError},
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
    pub fn of(pods: impl Iterator<Item = (Address, Pod)>, attached: &BTreeSet<Place>) -> Self {
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
                (address, Pod { flags, ..pod })
            })
            .collect();
        let flags = |pod: &Pod| pod.flags & !Pod::POLICY_PENDING;
        Self {
            netns: pods.values().map(|pod| (pod.netns, flags(pod))).collect(),
            pods,
        }
    }

    /// What stays of these where only `others` may be. A pod stays as long as it is
    /// behind the same link: without its entry nobody would hold it to its policies.
    pub fn also_in(&self, others: &Self) -> Self {
        let stays = self.pods.iter().filter(|(address, pod)| {
            let other = others.pods.get(address);
            other.is_some_and(|other| same_link(pod, other))
        });
        Self {
            pods: stays.map(|(address, pod)| (*address, *pod)).collect(),
            netns: both(&self.netns, &others.netns),
        }
    }

    /// What is not there yet.
    pub fn add(&mut self, others: Self) {
        for (address, pod) in others.pods {
            self.pods.entry(address).or_insert(pod);
        }
        for (cookie, flags) in others.netns {
            self.netns.entry(cookie).or_insert(flags);
        }
    }

    /// Whether policies have a say in anybody's traffic.
    fn is_held(&self) -> bool {
        self.pods.values().any(Pod::is_held)
    }
}

pub fn same_link(one: &Pod, other: &Pod) -> bool {
    let link = |pod: &Pod| (pod.ifindex, pod.mac, pod.gateway_mac, pod.netns);
    link(one) == link(other)
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
    policies: Switch,
    held: Tables,
}

/// Whether anybody at all asks for policies: one word.
struct Switch(Array<MapData, u32>);

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(maps::POLICIES)
    }
}

impl Switch {
    fn open(dir: &Path) -> Result<Self, TableError> {
        let opened = MapData::from_pin(dir.join(maps::POLICIES));
        let map = opened.and_then(|data| Array::try_from(Map::Array(data)));
        Ok(Self(map.map_err(failed("open", maps::POLICIES))?))
    }

    fn set(&mut self, on: bool) -> Result<(), TableError> {
        let word = u32::from(on);
        if self.0.get(&0, 0).is_ok_and(|now| now == word) {
            return Ok(());
        }
        let set = self.0.set(0, word, 0);
        set.map_err(failed("write to", maps::POLICIES))
    }
}

impl Writer {
    pub fn open(dir: &Path) -> Result<Self, TableError> {
        let mut writer = Self {
            pods: Table::open(dir, maps::PODS)?,
            netns: Table::open(dir, maps::NETNS_FLAGS)?,
            policies: Switch::open(dir)?,
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
        if wanted.is_held() {
            self.policies.set(true)?;
        }
        self.write_pods(wanted)?;
        if wanted.is_held() {
            Ok(())
        } else {
            self.policies.set(false)
        }
    }

    fn write_pods(&mut self, wanted: &Tables) -> Result<(), TableError> {
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
        let tables = Tables::of(pods.iter().copied(), &attached);
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
    fn a_pod_stays_while_its_policies_change() {
        let tables = |pod: Pod| Tables {
            pods: [(address(1), pod)].into(),
            netns: BTreeMap::new(),
        };
        let held = Pod {
            ingress: 3,
            ..pod(4, 40, Pod::POLICY_PENDING)
        };
        for (other, stays) in [
            (pod(4, 40, 0), true),
            (pod(5, 40, 0), false),
            (pod(4, 41, 0), false),
        ] {
            let left = tables(held).also_in(&tables(other));
            let expected = if stays {
                tables(held)
            } else {
                Tables::default()
            };
            assert_eq!(left, expected, "{other:?}");
        }
        let attached = places(&[(Program::FromPod, 4), (Program::ToPod, 4)]);
        let mut left = tables(held);
        left.add(tables(pod(4, 40, 0)));
        assert_eq!(left, tables(held), "nobody is let go by what is added");
        let known = Tables::of([(address(1), held)].into_iter(), &attached);
        assert!(known.is_held());
        assert_eq!(known.netns, [(40, Pod::UDP_BY_PACKET)].into());
        let free = Tables::of([(address(1), pod(4, 40, 0))].into_iter(), &attached);
        assert!(!free.is_held());
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

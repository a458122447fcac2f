//! The pinned maps: what they hold, read and written in their own terms.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use aya::maps::{HashMap as HashMapMap, LpmTrie, Map, MapData, MapError, MapInfo, lpm_trie::Key};
use ipnet::IpNet;
use vetch_ebpf_common::{
    Address, BackendKey, Endpoint, Frontend as FrontendValue, FrontendKey, MAX_SERVICES, MAX_SLOTS,
    PeerPods, Service, ServiceWord, Slot, SourceRange, Sources, Terms, Uplink as UplinkValue, maps,
};

use outside::Outside;
use ranges::Ranges;

use crate::{
    announce::Uplink,
    counters::{Latencies, TrafficCounters},
    diff::{Current, Pointer, ServiceId},
    model::{Backend, Balance, Exposure, Frontend, Target},
    sys::Words,
};

mod live;
mod outside;
mod ranges;
mod writer;

pub use live::Counts as LiveCounts;
pub use writer::Writer;

#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    #[error("cannot open the pinned map {name}")]
    Open {
        name: &'static str,
        #[source]
        source: Box<MapError>,
    },
    #[error("cannot map {name} into memory")]
    Mmap {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the map {name}")]
    Read {
        name: &'static str,
        #[source]
        source: Box<MapError>,
    },
    #[error("cannot list the maps in {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot inspect the map {name}")]
    Inspect {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the programs' daemon has not said how it loaded them: start this version of vetch-node once"
    )]
    NotNoted,
    #[error("cannot write {what} to the map {name}")]
    Write {
        name: &'static str,
        what: String,
        #[source]
        source: Box<MapError>,
    },
    #[error(
        "no room for {backends} backends of service-port {service}: {MAX_SLOTS} slots fit, and 65535 a list"
    )]
    Full { service: ServiceId, backends: usize },
}

/// The maps by which a call or a packet finds its backend.
#[derive(Debug)]
pub struct Maps {
    frontends: HashMapMap<MapData, FrontendKey, FrontendValue>,
    addresses: HashMapMap<MapData, Address, u32>,
    services: Words,
    slots: Words,
    backends: HashMapMap<MapData, BackendKey, u32>,
    ranges: LpmTrie<MapData, SourceRange, u32>,
    uplinks: HashMapMap<MapData, u32, UplinkValue>,
    peer_pods: Ranges<PeerPods>,
    non_masquerade: Ranges<u32>,
    sources: HashMapMap<MapData, u32, Sources>,
    outside: Outside,
    traffic: TrafficCounters,
    /// Entries written or removed through this: a slot, a service's word, a key.
    writes: u64,
    latencies: Latencies,
    live: live::Counts,
}

impl Maps {
    pub fn open(dir: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            frontends: hash(dir, maps::FRONTENDS)?,
            addresses: hash(dir, maps::ADDRESSES)?,
            services: words(dir, maps::SERVICES, MAX_SERVICES as usize * Service::WORDS)?,
            slots: words(dir, maps::SLOTS, MAX_SLOTS as usize * Slot::WORDS)?,
            backends: hash(dir, maps::BACKENDS)?,
            ranges: trie(dir, maps::SOURCE_RANGES)?,
            uplinks: hash(dir, maps::UPLINKS)?,
            peer_pods: Ranges::open(dir, maps::PEER_PODS)?,
            non_masquerade: Ranges::open(dir, maps::NON_MASQUERADE)?,
            sources: hash(dir, maps::SOURCES)?,
            outside: Outside::open(dir)?,
            traffic: TrafficCounters::open(dir).map_err(open_error(maps::TRAFFIC))?,
            writes: 0,
            latencies: Latencies::open(dir).map_err(open_error(maps::LATENCIES))?,
            live: live::Counts::open(dir)?,
        })
    }

    /// What a call would find now.
    pub fn read(&self) -> Result<Current, MapsError> {
        let mut current = Current::default();
        for entry in self.frontends.iter() {
            let (key, value) = entry.map_err(read_error(maps::FRONTENDS))?;
            let Ok(frontend) = Frontend::try_from(key) else {
                continue;
            };
            let service = value.service();
            current.frontends.insert(frontend, pointer(&value));
            current
                .services
                .entry(service)
                .or_insert_with(|| self.target(service));
        }
        for key in self.backends.keys() {
            let key = key.map_err(read_error(maps::BACKENDS))?;
            if let Some(target) = current.services.get_mut(&key.service()) {
                target.serving.push(key.endpoint().into());
            }
        }
        for key in self.ranges.keys() {
            let key = key.map_err(read_error(maps::SOURCE_RANGES))?;
            if let Some(target) = current.services.get_mut(&key.data().service())
                && let Some(range) = range_of(&key)
            {
                target.source_ranges.push(range);
            }
        }
        for target in current.services.values_mut() {
            target.serving.sort();
            target.source_ranges.sort();
        }
        Ok(current)
    }

    /// What each address is: flags of [`vetch_ebpf_common::addresses`].
    pub fn addresses(&self) -> Result<BTreeMap<IpAddr, u32>, MapsError> {
        let read = |entry: Result<(Address, u32), MapError>| {
            let (address, flags) = entry.map_err(read_error(maps::ADDRESSES))?;
            Ok((address.into(), flags))
        };
        self.addresses.iter().map(read).collect()
    }

    /// Other nodes' pods.
    pub fn peer_pods(&self) -> Result<BTreeMap<IpNet, PeerPods>, MapsError> {
        self.peer_pods.read()
    }

    /// Whom pods reach with their own address.
    pub fn non_masquerade(&self) -> Result<BTreeSet<IpNet>, MapsError> {
        Ok(self.non_masquerade.read()?.into_keys().collect())
    }

    /// As whom pods are seen, by uplink.
    pub fn sources(&self) -> Result<BTreeMap<u32, Sources>, MapsError> {
        let sources = self.sources.iter().collect::<Result<_, MapError>>();
        sources.map_err(read_error(maps::SOURCES))
    }

    /// Without what other maps than services and slots say.
    fn target(&self, service: ServiceId) -> Target {
        let word = self.word(service);
        let terms = Terms::from_bits(self.service_word(service, Service::TERMS));
        let first_local = word.slot_base() + word.cluster();
        let tag = Slot::tag(service, word.generation());
        let balance = if terms.has(Terms::HASH) {
            Balance::Maglev
        } else if terms.has(Terms::LEAST) {
            Balance::Least
        } else {
            Balance::Random
        };
        Target {
            internal_local: terms.has(Terms::INTERNAL_LOCAL),
            external_local: terms.has(Terms::EXTERNAL_LOCAL),
            affinity: terms
                .has(Terms::AFFINITY)
                .then_some(terms.affinity_seconds()),
            balance,
            cluster: self.slots(word.slot_base()..first_local, tag),
            local: self.slots(first_local..first_local + word.local(), tag),
            serving: Vec::new(),
            source_ranges: Vec::new(),
        }
    }

    /// The backends whose slots carry the tag; another's are not shown.
    fn slots(&self, slots: std::ops::Range<u32>, tag: u64) -> Vec<Backend> {
        slots
            .filter_map(|slot| {
                let start = slot as usize * Slot::WORDS;
                self.slots.get(start..start + Slot::WORDS)
            })
            .filter(|slot| slot[Slot::TAG_WORD].load(Acquire) == tag)
            .map(|slot| {
                let words = std::array::from_fn(|word| slot[word].load(Relaxed));
                Endpoint::from_words(words).into()
            })
            .collect()
    }

    fn word(&self, service: ServiceId) -> ServiceWord {
        ServiceWord::from_bits(self.service_word(service, Service::WORD))
    }

    fn service_word(&self, service: ServiceId, word: usize) -> u64 {
        self.services
            .get(service as usize * Service::WORDS + word)
            .map(|word| word.load(Acquire))
            .unwrap_or_default()
    }

    fn store(&mut self, service: ServiceId, word: ServiceWord) {
        self.writes += 1;
        self.services[service as usize * Service::WORDS + Service::WORD]
            .store(word.bits(), Release);
    }

    /// The number's bearer stays who it is.
    fn store_terms(&mut self, service: ServiceId, terms: Terms) {
        self.writes += 1;
        let now = Terms::from_bits(self.service_word(service, Service::TERMS));
        self.set_terms(service, terms.with_incarnation(now.incarnation()));
    }

    /// What is still counted for the number's bearer is for nobody from now on.
    fn end_incarnation(&self, service: ServiceId) {
        let now = Terms::from_bits(self.service_word(service, Service::TERMS));
        let next = now.incarnation().wrapping_add(1);
        self.set_terms(service, now.with_incarnation(next));
    }

    fn set_terms(&self, service: ServiceId, terms: Terms) {
        self.services[service as usize * Service::WORDS + Service::TERMS]
            .store(terms.bits(), Release);
    }

    /// In the order that [`Slot`] promises its readers.
    fn write_slots<'a>(
        &mut self,
        base: u32,
        backends: impl Iterator<Item = &'a Backend>,
        tag: u64,
    ) {
        let start = base as usize * Slot::WORDS;
        for (slot, backend) in self.slots[start..].chunks_exact(Slot::WORDS).zip(backends) {
            self.writes += 1;
            slot[Slot::TAG_WORD].store(0, Release);
            for (word, bits) in slot.iter().zip(Endpoint::from(*backend).words()) {
                word.store(bits, Release);
            }
            slot[Slot::TAG_WORD].store(tag, Release);
        }
    }

    fn point(&mut self, frontend: Frontend, to: Pointer) -> Result<(), MapsError> {
        self.writes += 1;
        let value = FrontendValue::new(to.service, to.exposure.flags());
        self.frontends
            .insert(frontend.key(), value, 0)
            .map_err(write_error(maps::FRONTENDS, frontend))
    }

    fn unpoint(&mut self, frontend: Frontend) -> Result<(), MapsError> {
        self.writes += 1;
        gone(self.frontends.remove(&frontend.key())).map_err(write_error(maps::FRONTENDS, frontend))
    }

    /// Zero flags take the address away.
    fn set_address(&mut self, address: IpAddr, flags: u32) -> Result<(), MapsError> {
        self.writes += 1;
        let key = Address::from(address);
        let result = match flags {
            0 => gone(self.addresses.remove(&key)),
            flags => self.addresses.insert(key, flags, 0),
        };
        result.map_err(write_error(maps::ADDRESSES, address))
    }

    /// The interfaces at which the programs answer for announced addresses.
    fn set_uplinks(&mut self, uplinks: &[Uplink]) -> Result<(), MapsError> {
        let held: Result<HashMap<u32, UplinkValue>, MapError> = self.uplinks.iter().collect();
        let mut held = held.map_err(read_error(maps::UPLINKS))?;
        for uplink in uplinks {
            let value = UplinkValue::new(uplink.mac).with_mtu(uplink.mtu);
            if held.remove(&uplink.index) != Some(value) {
                self.writes += 1;
                self.uplinks
                    .insert(uplink.index, value, 0)
                    .map_err(write_error(maps::UPLINKS, uplink.index))?;
            }
        }
        for index in held.into_keys() {
            self.writes += 1;
            gone(self.uplinks.remove(&index)).map_err(write_error(maps::UPLINKS, index))?;
        }
        Ok(())
    }

    fn set_peer_pods(&mut self, ranges: &BTreeMap<IpNet, PeerPods>) -> Result<(), MapsError> {
        self.writes += self.peer_pods.set(ranges)?;
        Ok(())
    }

    fn set_non_masquerade(&mut self, ranges: &BTreeSet<IpNet>) -> Result<(), MapsError> {
        let ranges = ranges.iter().map(|range| (*range, 1)).collect();
        self.writes += self.non_masquerade.set(&ranges)?;
        Ok(())
    }

    /// As whom pods are seen behind the uplinks.
    fn set_sources(&mut self, sources: &BTreeMap<u32, Sources>) -> Result<(), MapsError> {
        let held = self.sources()?;
        for (index, own) in sources {
            if held.get(index) != Some(own) {
                self.writes += 1;
                self.sources
                    .insert(index, own, 0)
                    .map_err(write_error(maps::SOURCES, index))?;
            }
        }
        for index in held.keys().filter(|index| !sources.contains_key(index)) {
            self.writes += 1;
            gone(self.sources.remove(index)).map_err(write_error(maps::SOURCES, index))?;
        }
        Ok(())
    }

    fn set_serving(
        &mut self,
        service: ServiceId,
        backend: Backend,
        flags: u32,
    ) -> Result<(), MapsError> {
        self.writes += 1;
        self.backends
            .insert(BackendKey::new(service, backend.into()), flags, 0)
            .map_err(write_error(maps::BACKENDS, backend))
    }

    fn clear_serving(&mut self, service: ServiceId, backend: Backend) -> Result<(), MapsError> {
        self.writes += 1;
        gone(
            self.backends
                .remove(&BackendKey::new(service, backend.into())),
        )
        .map_err(write_error(maps::BACKENDS, backend))
    }

    fn forget_counters(&mut self, service: ServiceId) -> Result<(), MapsError> {
        self.writes += 2;
        self.traffic
            .forget(service)
            .map_err(write_error(maps::TRAFFIC, service))?;
        self.latencies
            .forget(service)
            .map_err(write_error(maps::LATENCIES, service))
    }

    fn add_range(&mut self, service: ServiceId, range: IpNet) -> Result<(), MapsError> {
        self.writes += 1;
        self.ranges
            .insert(&range_key(service, range), 1, 0)
            .map_err(write_error(maps::SOURCE_RANGES, range))
    }

    fn remove_range(&mut self, service: ServiceId, range: IpNet) -> Result<(), MapsError> {
        self.writes += 1;
        gone(self.ranges.remove(&range_key(service, range)))
            .map_err(write_error(maps::SOURCE_RANGES, range))
    }
}

/// What is dialled, and which service-port answers, without what that is.
pub fn frontends(dir: &Path) -> Result<BTreeMap<Frontend, Pointer>, MapsError> {
    let map = hash::<FrontendKey, FrontendValue>(dir, maps::FRONTENDS)?;
    let mut frontends = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) = entry.map_err(read_error(maps::FRONTENDS))?;
        if let Ok(frontend) = Frontend::try_from(key) {
            frontends.insert(frontend, pointer(&value));
        }
    }
    Ok(frontends)
}

fn pointer(value: &FrontendValue) -> Pointer {
    Pointer {
        service: value.service(),
        exposure: Exposure::of(value),
    }
}

/// The terms a target asks for.
pub fn terms(target: &Target) -> Terms {
    let flag = |set, flag| if set { flag } else { 0 };
    Terms::new(
        flag(target.internal_local, Terms::INTERNAL_LOCAL)
            | flag(target.external_local, Terms::EXTERNAL_LOCAL)
            | flag(target.affinity.is_some(), Terms::AFFINITY)
            | flag(target.balance == Balance::Maglev, Terms::HASH)
            | flag(target.balance == Balance::Least, Terms::LEAST),
        target.affinity.unwrap_or_default(),
    )
}

/// The lists each serving backend is in.
fn serving(target: &Target) -> Vec<(Backend, u32)> {
    // Of most service-ports nobody asks.
    if target.serving.is_empty() {
        return Vec::new();
    }
    let cluster: HashSet<&Backend> = target.cluster.iter().collect();
    let local: HashSet<&Backend> = target.local.iter().collect();
    let flags = |backend: &Backend| {
        let flag = |list: &HashSet<&Backend>, flag| if list.contains(backend) { flag } else { 0 };
        flag(&cluster, BackendKey::CLUSTER) | flag(&local, BackendKey::LOCAL)
    };
    let serving = target.serving.iter();
    serving.map(|backend| (*backend, flags(backend))).collect()
}

fn range_key(service: ServiceId, range: IpNet) -> Key<SourceRange> {
    let (address, len) = mapped(range);
    Key::new(
        SourceRange::prefix_len(len),
        SourceRange::new(service, address),
    )
}

fn range_of(key: &Key<SourceRange>) -> Option<IpNet> {
    let len = key.prefix_len().checked_sub(SourceRange::prefix_len(0))?;
    net(key.data().client(), len)
}

/// A range as one of IPv6, with the length of its prefix.
pub fn mapped(range: IpNet) -> (Address, u32) {
    let before = if range.addr().is_ipv4() { 96 } else { 0 };
    (
        range.network().into(),
        before + u32::from(range.prefix_len()),
    )
}

/// And back.
pub fn net(address: Address, len: u32) -> Option<IpNet> {
    let address = IpAddr::from(address);
    let before = if address.is_ipv4() { 96 } else { 0 };
    let len = u8::try_from(len.checked_sub(before)?).ok()?;
    IpNet::new(address, len).ok()
}

pub fn trie<K: aya::Pod, V: aya::Pod>(
    dir: &Path,
    name: &'static str,
) -> Result<LpmTrie<MapData, K, V>, MapsError> {
    LpmTrie::try_from(Map::LpmTrie(pinned(dir, name)?)).map_err(open_error(name))
}

pub fn hash<K: aya::Pod, V: aya::Pod>(
    dir: &Path,
    name: &'static str,
) -> Result<HashMapMap<MapData, K, V>, MapsError> {
    HashMapMap::try_from(Map::HashMap(pinned(dir, name)?)).map_err(open_error(name))
}

fn pinned(dir: &Path, name: &'static str) -> Result<MapData, MapsError> {
    MapData::from_pin(dir.join(name)).map_err(open_error(name))
}

/// The most entries that a map takes.
pub fn capacity(dir: &Path, name: &'static str) -> Result<u32, MapsError> {
    let info = MapInfo::from_pin(dir.join(name)).map_err(open_error(name))?;
    Ok(info.max_entries())
}

fn words(dir: &Path, name: &'static str, len: usize) -> Result<Words, MapsError> {
    let map = pinned(dir, name)?;
    Words::map(std::os::fd::AsFd::as_fd(map.fd()), len)
        .map_err(|source| MapsError::Mmap { name, source })
}

/// What is to be gone and is: aya says it in the kernel's words.
pub fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        result => result,
    }
}

fn open_error(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Open {
        name,
        source: Box::new(error),
    }
}

pub fn read_error(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Read {
        name,
        source: Box::new(error),
    }
}

pub fn write_error(
    name: &'static str,
    what: impl std::fmt::Display,
) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Write {
        name,
        what: what.to_string(),
        source: Box::new(error),
    }
}

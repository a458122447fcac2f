//! The pinned maps: what they hold, and the steps that change it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    path::Path,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::{Duration, Instant},
};

use aya::maps::{HashMap as HashMapMap, Map, MapData, MapError};
use vetch_ebpf_common::{Endpoint, FrontendKey, MAX_SERVICES, MAX_SLOTS, ServiceWord, Slot, maps};

use crate::{
    diff::{Current, MapOp, ServiceId},
    model::{Backend, Frontend},
    slots::{Block, Slots},
    sys::Words,
};

/// How long a block of slots or a service's number rests before it is used
/// again. A program that read the old word is done within microseconds unless
/// its processor was taken away; the tag in every slot catches the rest.
const REST: Duration = Duration::from_secs(2);

const WORDS_PER_SLOT: usize = size_of::<Slot>() / size_of::<u64>();

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
    #[error("cannot read the frontends")]
    Read(#[source] Box<MapError>),
    #[error("cannot write frontend {frontend}: {MAX_SERVICES} fit")]
    Write {
        frontend: Frontend,
        #[source]
        source: Box<MapError>,
    },
    #[error(
        "no room for {backends} backends of service-port {service}: {MAX_SLOTS} slots fit, and 65535 a port"
    )]
    Full { service: ServiceId, backends: usize },
}

/// The three maps by which a call finds its backend.
#[derive(Debug)]
pub struct Maps {
    frontends: HashMapMap<MapData, [u8; 8], u32>,
    services: Words,
    slots: Words,
}

impl Maps {
    pub fn open(dir: &Path) -> Result<Self, MapsError> {
        let frontends = pinned(dir, maps::FRONTENDS)?;
        let frontends =
            HashMapMap::try_from(Map::HashMap(frontends)).map_err(open_error(maps::FRONTENDS))?;
        let services = words(dir, maps::SERVICES, MAX_SERVICES as usize)?;
        let slots = words(dir, maps::SLOTS, MAX_SLOTS as usize * WORDS_PER_SLOT)?;
        Ok(Self {
            frontends,
            services,
            slots,
        })
    }

    /// What a call would find now.
    pub fn read(&self) -> Result<Current, MapsError> {
        let mut current = Current::default();
        for entry in self.frontends.iter() {
            let (key, service) = entry.map_err(|error| MapsError::Read(Box::new(error)))?;
            let Ok(frontend) = Frontend::try_from(FrontendKey::from_bytes(key)) else {
                continue;
            };
            current.frontends.insert(frontend, service);
            current
                .services
                .entry(service)
                .or_insert_with(|| self.backends(service));
        }
        Ok(current)
    }

    /// The backends whose slots carry the service's tag; another's are not shown.
    fn backends(&self, service: ServiceId) -> Vec<Backend> {
        let word = self.word(service);
        let tag = Slot::tag(service, word.generation());
        (word.slot_base()..word.slot_base() + word.backends())
            .filter_map(|slot| {
                self.slots
                    .get(slot as usize * WORDS_PER_SLOT..)?
                    .get(..WORDS_PER_SLOT)
            })
            .filter(|slot| slot[Slot::TAG_WORD].load(Acquire) == tag)
            .map(|slot| Endpoint::from_bits(slot[0].load(Relaxed)).into())
            .collect()
    }

    fn word(&self, service: ServiceId) -> ServiceWord {
        let word = self
            .services
            .get(service as usize)
            .map(|word| word.load(Acquire));
        ServiceWord::from_bits(word.unwrap_or_default())
    }

    /// In the order that [`Slot`] promises its readers.
    fn write_slots(&self, base: u32, backends: &[Backend], tag: u64) {
        let start = base as usize * WORDS_PER_SLOT;
        for (slot, backend) in self.slots[start..]
            .chunks_exact(WORDS_PER_SLOT)
            .zip(backends)
        {
            slot[Slot::TAG_WORD].store(0, Release);
            slot[0].store(Endpoint::from(*backend).bits(), Release);
            slot[Slot::TAG_WORD].store(tag, Release);
        }
    }
}

/// The maps with their bookkeeping: the one writer.
#[derive(Debug)]
pub struct Writer {
    maps: Maps,
    current: Current,
    slots: Slots,
    blocks: HashMap<ServiceId, Block>,
    next: ServiceId,
    free: VecDeque<ServiceId>,
    resting: VecDeque<(Instant, Rest)>,
}

#[derive(Clone, Copy, Debug)]
enum Rest {
    Block(Block),
    Service(ServiceId),
}

impl Writer {
    /// Goes on from what the maps hold.
    pub fn adopt(maps: Maps) -> Result<Self, MapsError> {
        let mut writer = Self {
            maps,
            current: Current::default(),
            slots: Slots::new(MAX_SLOTS),
            blocks: HashMap::new(),
            next: 0,
            free: VecDeque::new(),
            resting: VecDeque::new(),
        };
        writer.reload()?;
        Ok(writer)
    }

    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Whether the maps still hold what was written to them.
    pub fn agrees(&self) -> Result<bool, MapsError> {
        Ok(self.maps.read()? == self.current)
    }

    /// Takes what the maps hold for the truth.
    pub fn reload(&mut self) -> Result<(), MapsError> {
        self.current = self.maps.read()?;
        self.slots = Slots::new(MAX_SLOTS);
        self.blocks.clear();
        for (_, rest) in &self.resting {
            if let Rest::Block(block) = rest {
                self.slots.reserve(*block);
            }
        }
        let mut broken = Vec::new();
        for service in self.current.services.keys() {
            let word = self.maps.word(*service);
            let block = Block::of(word.slot_base(), word.backends() as usize);
            if word.backends() == 0 {
                continue;
            }
            if self.slots.reserve(block) {
                self.blocks.insert(*service, block);
            } else {
                broken.push(*service);
            }
        }
        for service in broken {
            // Not a block we could have made: publish it anew.
            self.current.services.remove(&service);
        }
        self.next = self
            .current
            .services
            .keys()
            .next_back()
            .map_or(0, |last| last + 1);
        self.free = (0..self.next)
            .filter(|service| !self.current.services.contains_key(service))
            .collect();
        self.resting
            .retain(|(_, rest)| matches!(rest, Rest::Block(_)));
        Ok(())
    }

    /// Numbers for new service-ports, the one longest out of use first.
    pub fn fresh(&self) -> impl Iterator<Item = ServiceId> + use<> {
        let unused = self.next..MAX_SERVICES;
        self.free.clone().into_iter().chain(unused)
    }

    /// Carries out one step; a failed one changes nothing.
    pub fn apply(&mut self, op: &MapOp, now: Instant) -> Result<(), MapsError> {
        match op {
            MapOp::Publish { service, backends } => self.publish(*service, backends, now)?,
            MapOp::Point { frontend, service } => self
                .maps
                .frontends
                .insert(frontend.key().bytes(), service, 0)
                .map_err(|error| MapsError::Write {
                    frontend: *frontend,
                    source: Box::new(error),
                })?,
            MapOp::Unpoint { frontend } => {
                match self.maps.frontends.remove(&frontend.key().bytes()) {
                    Err(MapError::KeyNotFound) => {}
                    result => {
                        result.map_err(|error| MapsError::Write {
                            frontend: *frontend,
                            source: Box::new(error),
                        })?;
                    }
                }
            }
            MapOp::Retire { service } => self.resting.push_back((now, Rest::Service(*service))),
        }
        self.current.record(op);
        Ok(())
    }

    /// Makes room of what has rested long enough.
    pub fn reap(&mut self, now: Instant) {
        while let Some((since, rest)) = self.resting.front().copied() {
            if now.duration_since(since) < REST {
                break;
            }
            self.resting.pop_front();
            match rest {
                Rest::Block(block) => self.slots.release(block),
                Rest::Service(service) => {
                    self.store(
                        service,
                        ServiceWord::new(0, 0, self.maps.word(service).generation()),
                    );
                    if let Some(block) = self.blocks.remove(&service) {
                        self.slots.release(block);
                    }
                    self.free.push_back(service);
                }
            }
        }
    }

    fn publish(
        &mut self,
        service: ServiceId,
        backends: &[Backend],
        now: Instant,
    ) -> Result<(), MapsError> {
        let full = || MapsError::Full {
            service,
            backends: backends.len(),
        };
        let count = u16::try_from(backends.len()).map_err(|_| full())?;
        let generation = self.maps.word(service).next_generation();
        let block = match count {
            0 => None,
            _ => Some(self.slots.allocate(backends.len()).ok_or_else(full)?),
        };
        if let Some(block) = block {
            self.maps
                .write_slots(block.base, backends, Slot::tag(service, generation));
        }
        self.store(
            service,
            ServiceWord::new(block.map_or(0, |block| block.base), count, generation),
        );
        let old = match block {
            Some(block) => self.blocks.insert(service, block),
            None => self.blocks.remove(&service),
        };
        if let Some(old) = old {
            self.resting.push_back((now, Rest::Block(old)));
        }
        if service >= self.next {
            self.next = service + 1;
        } else if let Some(at) = self.free.iter().position(|free| *free == service) {
            self.free.remove(at);
        }
        Ok(())
    }

    fn store(&self, service: ServiceId, word: ServiceWord) {
        self.maps.services[service as usize].store(word.bits(), Release);
    }
}

/// Frontends and their backends as the kernel has them.
pub fn dump(dir: &Path) -> Result<BTreeMap<Frontend, Vec<Backend>>, MapsError> {
    let Current {
        frontends,
        services,
    } = Maps::open(dir)?.read()?;
    let backends = |service| services.get(&service).cloned().unwrap_or_default();
    Ok(frontends
        .into_iter()
        .map(|(frontend, service)| (frontend, backends(service)))
        .collect())
}

fn pinned(dir: &Path, name: &'static str) -> Result<MapData, MapsError> {
    MapData::from_pin(dir.join(name)).map_err(open_error(name))
}

fn words(dir: &Path, name: &'static str, len: usize) -> Result<Words, MapsError> {
    let map = pinned(dir, name)?;
    Words::map(std::os::fd::AsFd::as_fd(map.fd()), len)
        .map_err(|source| MapsError::Mmap { name, source })
}

fn open_error(name: &'static str) -> impl FnOnce(MapError) -> MapsError {
    move |error| MapsError::Open {
        name,
        source: Box::new(error),
    }
}

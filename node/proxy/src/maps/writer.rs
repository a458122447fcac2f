//! The one writer of the maps, with its bookkeeping.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tracing::debug;
use vetch_ebpf_common::{
    MAX_SERVICES, MAX_SLOTS, PeerPods, ServiceWord, Slot, Sources, addresses, maps,
};

use super::{Maps, MapsError, serving, terms};
use crate::{
    announce::Uplink,
    diff::{Current, MapOp, ServiceId},
    model::{Balance, Frontend, Target},
    slots::{Block, Slots},
};

/// How long a block of slots or a service's number rests before it is used
/// again. A program that read the old word is done within microseconds unless
/// its processor was taken away; the tag in every slot catches the rest.
const REST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Writer {
    maps: Maps,
    current: Current,
    /// How many frontends each service address has.
    in_use: HashMap<IpAddr, usize>,
    /// The node's own addresses, those it announces, and other nodes'.
    node: BTreeMap<IpAddr, u32>,
    slots: Slots,
    blocks: HashMap<ServiceId, Block>,
    next: ServiceId,
    free: VecDeque<ServiceId>,
    resting: VecDeque<(Instant, Rest)>,
    /// As they are in the map; `None` where that is to be looked up.
    uplinks: Option<Vec<Uplink>>,
    /// Likewise.
    peer_pods: Option<BTreeMap<IpNet, PeerPods>>,
    /// Likewise: whom pods reach with their own address, and as whom others see them.
    masquerade: Option<(BTreeSet<IpNet>, BTreeMap<u32, Sources>)>,
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
            in_use: HashMap::new(),
            node: BTreeMap::new(),
            slots: Slots::new(MAX_SLOTS),
            blocks: HashMap::new(),
            next: 0,
            free: VecDeque::new(),
            resting: VecDeque::new(),
            uplinks: None,
            peer_pods: None,
            masquerade: None,
        };
        writer.reload()?;
        Ok(writer)
    }

    pub fn current(&self) -> &Current {
        &self.current
    }

    /// How many entries were written or removed.
    pub fn writes(&self) -> u64 {
        self.maps.writes
    }

    /// How many entries each map has that is written here.
    pub fn used(&self) -> [(&'static str, usize); 6] {
        let targets = self.current.services.values();
        let (backends, ranges) = targets.fold((0, 0), |(backends, ranges), target| {
            (
                backends + target.serving.len(),
                ranges + target.source_ranges.len(),
            )
        });
        let node = self.node.keys();
        let node = node.filter(|address| !self.in_use.contains_key(*address));
        [
            (maps::FRONTENDS, self.current.frontends.len()),
            (maps::ADDRESSES, self.in_use.len() + node.count()),
            (maps::SERVICES, self.current.services.len()),
            (maps::SLOTS, self.slots.taken() as usize),
            (maps::BACKENDS, backends),
            (maps::SOURCE_RANGES, ranges),
        ]
    }

    /// Whether the maps still hold what was written to them.
    pub fn agrees(&mut self) -> Result<bool, MapsError> {
        self.uplinks = None;
        self.peer_pods = None;
        self.masquerade = None;
        Ok(self.maps.read()? == self.current && self.maps.addresses()? == self.addresses())
    }

    /// Takes what the maps hold for the truth. Addresses are no part of it:
    /// they follow from the frontends and the node.
    pub fn reload(&mut self) -> Result<(), MapsError> {
        self.current = self.maps.read()?;
        self.in_use.clear();
        for frontend in self.current.frontends.keys() {
            if let Some(address) = own_address(frontend) {
                *self.in_use.entry(address).or_default() += 1;
            }
        }
        let found = self.maps.addresses()?;
        // Until somebody says what the node has, what an earlier daemon knew holds.
        if self.node.is_empty() {
            let node = found.iter();
            let node = node.map(|(address, flags)| (*address, flags & !addresses::SERVICE));
            self.node = node.filter(|(_, flags)| *flags != 0).collect();
        }
        self.write_addresses(&found)?;
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
            let backends = word.cluster() + word.local();
            if backends == 0 {
                continue;
            }
            let block = Block::of(word.slot_base(), backends as usize);
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
        for service in &self.free {
            self.maps.end_incarnation(*service);
        }
        self.resting
            .retain(|(_, rest)| matches!(rest, Rest::Block(_)));
        Ok(())
    }

    /// Numbers for new service-ports, the one longest out of use first.
    pub fn fresh(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.free.iter().copied().chain(self.next..MAX_SERVICES)
    }

    /// What the node itself has and announces, and what others have: flags
    /// [`addresses::NODE`], [`addresses::ANNOUNCED`] and [`addresses::PEER`].
    pub fn set_node(&mut self, node: BTreeMap<IpAddr, u32>) -> Result<(), MapsError> {
        let before = std::mem::replace(&mut self.node, node);
        // Services' addresses are many, and what they are is not changed here.
        let touched: BTreeSet<IpAddr> = before.keys().chain(self.node.keys()).copied().collect();
        for address in touched {
            if before.get(&address) != self.node.get(&address) {
                let in_use = self.in_use.contains_key(&address);
                let service = if in_use { addresses::SERVICE } else { 0 };
                let node = self.node.get(&address).copied().unwrap_or_default();
                self.maps.set_address(address, node | service)?;
            }
        }
        Ok(())
    }

    /// What it announces, as it was said last: by an earlier daemon, if this one has not spoken yet.
    pub fn announced(&self) -> BTreeSet<IpAddr> {
        let announced = self.node.iter();
        let announced = announced.filter(|(_, flags)| **flags & addresses::ANNOUNCED != 0);
        announced.map(|(address, _)| *address).collect()
    }

    pub fn set_uplinks(&mut self, uplinks: &[Uplink]) -> Result<(), MapsError> {
        if self.uplinks.as_deref() != Some(uplinks) {
            self.uplinks = None;
            self.maps.set_uplinks(uplinks)?;
            self.uplinks = Some(uplinks.to_vec());
        }
        Ok(())
    }

    pub fn set_peer_pods(&mut self, ranges: &BTreeMap<IpNet, PeerPods>) -> Result<(), MapsError> {
        if self.peer_pods.as_ref() != Some(ranges) {
            self.peer_pods = None;
            self.maps.set_peer_pods(ranges)?;
            self.peer_pods = Some(ranges.clone());
        }
        Ok(())
    }

    /// What a packet may leave with before what it may not leave without.
    pub fn set_masquerade(
        &mut self,
        keep_source: &BTreeSet<IpNet>,
        sources: &BTreeMap<u32, Sources>,
    ) -> Result<(), MapsError> {
        let same = |(ranges, held): &(BTreeSet<IpNet>, BTreeMap<u32, Sources>)| {
            ranges == keep_source && held == sources
        };
        if !self.masquerade.as_ref().is_some_and(same) {
            self.masquerade = None;
            self.maps.set_non_masquerade(keep_source)?;
            self.maps.set_sources(sources)?;
            let is_own = |ip: &IpAddr| {
                let flags = self.node.get(ip);
                flags.is_some_and(|flags| flags & addresses::NODE != 0)
            };
            self.maps.outside.follow(sources, is_own)?;
            self.masquerade = Some((keep_source.clone(), sources.clone()));
        }
        Ok(())
    }

    /// Carries out one step; a failed one leaves what was published as it is.
    pub fn apply(&mut self, op: &MapOp, now: Instant) -> Result<(), MapsError> {
        match op {
            MapOp::Publish { service, target } => self.publish(*service, target, now)?,
            MapOp::Point { frontend, to } => {
                self.maps.point(*frontend, *to)?;
                if !self.current.frontends.contains_key(frontend) {
                    self.use_address(frontend)?;
                }
            }
            MapOp::Unpoint { frontend } => {
                self.maps.unpoint(*frontend)?;
                if self.current.frontends.contains_key(frontend) {
                    self.leave_address(frontend)?;
                }
            }
            MapOp::Retire { service } => {
                if let Some(target) = self.current.services.get(service) {
                    prune(&mut self.maps, *service, target, &Target::default())?;
                }
                self.resting.push_back((now, Rest::Service(*service)));
            }
        }
        self.current.record(op);
        Ok(())
    }

    /// Counts the live flows of service-ports that balance by them anew, and
    /// forgets what is counted of others.
    pub fn recount(&mut self) -> Result<(), MapsError> {
        self.maps.live.recount(&self.current)
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
                    let generation = self.maps.word(service).generation();
                    self.maps
                        .store(service, ServiceWord::new(0, 0, 0, generation));
                    if let Some(block) = self.blocks.remove(&service) {
                        self.slots.release(block);
                    }
                    // In this order: what is counted meanwhile is forgotten too.
                    self.maps.end_incarnation(service);
                    if let Err(error) = self.maps.forget_counters(service) {
                        debug!(%error, "counters of an old service stay");
                    }
                    self.free.push_back(service);
                }
            }
        }
    }

    /// Who may be asked about is known before the first client comes, and
    /// forgotten after the last new one went.
    fn publish(
        &mut self,
        service: ServiceId,
        target: &Target,
        now: Instant,
    ) -> Result<(), MapsError> {
        let backends = target.cluster.len() + target.local.len();
        let full = || MapsError::Full { service, backends };
        let count = |list: &[_]| u16::try_from(list.len()).map_err(|_| full());
        let (cluster, local) = (count(&target.cluster)?, count(&target.local)?);
        let nothing = Target::default();
        let before = self.current.services.get(&service).unwrap_or(&nothing);
        let known: HashMap<_, _> = serving(before).into_iter().collect();
        for (backend, flags) in serving(target) {
            let old = known.get(&backend).copied();
            if old != Some(flags) {
                let both = flags | old.unwrap_or(0);
                self.maps.set_serving(service, backend, both)?;
            }
        }
        for range in &target.source_ranges {
            if !before.source_ranges.contains(range) {
                self.maps.add_range(service, *range)?;
            }
        }
        let generation = self.maps.word(service).next_generation();
        let block = match backends {
            0 => None,
            _ => Some(self.slots.allocate(backends).ok_or_else(full)?),
        };
        if let Some(block) = block {
            let both = target.cluster.iter().chain(&target.local);
            self.maps
                .write_slots(block.base, both, Slot::tag(service, generation));
        }
        self.maps.store_terms(service, terms(target));
        let base = block.map_or(0, |block| block.base);
        self.maps
            .store(service, ServiceWord::new(base, cluster, local, generation));
        let old = match block {
            Some(block) => self.blocks.insert(service, block),
            None => self.blocks.remove(&service),
        };
        if let Some(old) = old {
            self.resting.push_back((now, Rest::Block(old)));
        }
        if service >= self.next {
            self.free.extend(self.next..service);
            self.next = service + 1;
        } else if let Some(at) = self.free.iter().position(|free| *free == service) {
            self.free.remove(at);
        }
        prune(&mut self.maps, service, before, target)
    }

    fn use_address(&mut self, frontend: &Frontend) -> Result<(), MapsError> {
        let Some(address) = own_address(frontend) else {
            return Ok(());
        };
        let users = self.in_use.entry(address).or_default();
        *users += 1;
        if *users == 1 {
            let node = self.node.get(&address).copied().unwrap_or_default();
            self.maps.set_address(address, node | addresses::SERVICE)?;
        }
        Ok(())
    }

    fn leave_address(&mut self, frontend: &Frontend) -> Result<(), MapsError> {
        let Some(address) = own_address(frontend) else {
            return Ok(());
        };
        let left = self.in_use.get(&address).copied().unwrap_or(1) - 1;
        if left > 0 {
            self.in_use.insert(address, left);
            return Ok(());
        }
        self.in_use.remove(&address);
        let node = self.node.get(&address).copied().unwrap_or_default();
        self.maps.set_address(address, node)
    }

    fn addresses(&self) -> BTreeMap<IpAddr, u32> {
        let mut all = self.node.clone();
        for address in self.in_use.keys() {
            *all.entry(*address).or_default() |= addresses::SERVICE;
        }
        all
    }

    fn write_addresses(&mut self, before: &BTreeMap<IpAddr, u32>) -> Result<(), MapsError> {
        let wanted = self.addresses();
        let all: BTreeSet<&IpAddr> = before.keys().chain(wanted.keys()).collect();
        for address in all {
            let flags = wanted.get(address).copied().unwrap_or_default();
            if before.get(address).copied().unwrap_or_default() != flags {
                self.maps.set_address(*address, flags)?;
            }
        }
        Ok(())
    }
}

/// The service address of a frontend; NodePorts have none of their own.
fn own_address(frontend: &Frontend) -> Option<IpAddr> {
    Some(frontend.addr).filter(|address| !address.is_unspecified())
}

/// Forgets who serves no more, and ranges that are gone.
fn prune(
    maps: &mut Maps,
    service: ServiceId,
    before: &Target,
    after: &Target,
) -> Result<(), MapsError> {
    let wanted: HashMap<_, _> = serving(after).into_iter().collect();
    for (backend, old) in serving(before) {
        match wanted.get(&backend) {
            None => {
                maps.clear_serving(service, backend)?;
                if before.balance == Balance::Least {
                    maps.live.forget(service, backend)?;
                }
            }
            Some(flags) if old & !flags != 0 => maps.set_serving(service, backend, *flags)?,
            Some(_) => {}
        }
    }
    for range in &before.source_ranges {
        if !after.source_ranges.contains(range) {
            maps.remove_range(service, *range)?;
        }
    }
    Ok(())
}

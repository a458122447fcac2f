//! One writer that brings the maps to what the services want.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use ipnet::IpNet;
use tracing::{debug, warn};
use vetch_ebpf_common::{PeerPods, Reason, Sources, Sweep, maps::REASONS};

use crate::{
    Error, ProxyConfig,
    announce::Uplink,
    counters,
    diff::{Current, MapOp, diff},
    index::ObjectName,
    maps::{Maps, MapsError, Writer, capacity},
    model::{Balance, Frontend, ServicePort, Target},
    pressure::{self, Table},
    programs::{Programs, maps_dir},
    sweep::Sweeper,
    trace,
};

/// The service proxy without the watching: maps and programs of one node.
pub struct Proxy {
    programs: Programs,
    writer: Writer,
    maps_dir: PathBuf,
    /// The most entries of each table, which a map that was there keeps.
    capacities: BTreeMap<&'static str, u32>,
    /// Whose frontends are whose; empty until the first full sync.
    owned: BTreeMap<ObjectName, Box<[Frontend]>>,
    owner: BTreeMap<Frontend, ObjectName>,
    /// Whether a service balances by live connections.
    least: bool,
}

impl Proxy {
    /// Loads the programs and adopts the pinned maps. What an earlier daemon
    /// attached keeps answering, from the same maps.
    pub fn open(config: &ProxyConfig) -> Result<Self, Error> {
        let programs = Programs::load(config, trace::level())?;
        let maps_dir = maps_dir(&config.pin_dir);
        let writer = Writer::adopt(Maps::open(&maps_dir)?)?;
        Ok(Self {
            programs,
            writer,
            maps_dir,
            capacities: BTreeMap::new(),
            owned: BTreeMap::new(),
            owner: BTreeMap::new(),
            least: false,
        })
    }

    pub fn programs(&mut self) -> &mut Programs {
        &mut self.programs
    }

    /// The first sync, and the one after a drift: `all` is everything wanted,
    /// and what else is in the maps goes.
    pub fn sync_all(&mut self, all: &BTreeMap<ObjectName, Vec<ServicePort>>) -> Vec<ObjectName> {
        self.owned.clear();
        self.owner.clear();
        let scope = self.writer.current().frontends.keys().copied().collect();
        self.sync_scope(scope, all)
    }

    /// Brings the maps to what the changed services want, and only theirs.
    /// Returns the services that could not be served wholly.
    pub fn sync(&mut self, changed: &BTreeMap<ObjectName, Vec<ServicePort>>) -> Vec<ObjectName> {
        let before = changed
            .keys()
            .filter_map(|name| self.owned.get(name))
            .flat_map(|frontends| &frontends[..]);
        // An address that another service has taken since is that service's.
        let scope = before.filter(|frontend| {
            self.owner
                .get(frontend)
                .is_none_or(|owner| changed.contains_key(owner))
        });
        let scope = scope.copied().collect();
        self.sync_scope(scope, changed)
    }

    fn sync_scope(
        &mut self,
        mut scope: BTreeSet<Frontend>,
        changed: &BTreeMap<ObjectName, Vec<ServicePort>>,
    ) -> Vec<ObjectName> {
        let now = Instant::now();
        self.writer.reap(now);
        scope.extend(
            changed
                .values()
                .flatten()
                .flat_map(|port| port.frontends.keys()),
        );
        let ports: Vec<ServicePort> = changed.values().flatten().cloned().collect();
        let (ops, left_out) = diff(
            self.writer.current(),
            &scope,
            &ports,
            &mut self.writer.fresh(),
        );
        let mut failed: BTreeSet<Frontend> = left_out
            .into_iter()
            .flat_map(|port| port.frontends.into_keys())
            .collect();
        if !failed.is_empty() {
            warn!(
                frontends = failed.len(),
                "no number left for these service-ports"
            );
        }
        let mut unpublished = BTreeSet::new();
        for op in &ops {
            if let MapOp::Point { frontend, to } = op
                && unpublished.contains(&to.service)
            {
                failed.insert(*frontend);
                continue;
            }
            debug!(?op, "map");
            if let Err(error) = self.writer.apply(op, now) {
                warn!(
                    error = chain(&error),
                    "a service is not served as it should be; trying again later"
                );
                match op {
                    MapOp::Publish { service, .. } | MapOp::Retire { service } => {
                        unpublished.insert(*service);
                        let current = &self.writer.current().frontends;
                        failed.extend(scope.iter().filter(|frontend| {
                            current
                                .get(frontend)
                                .is_some_and(|to| to.service == *service)
                        }));
                    }
                    MapOp::Point { frontend, .. } | MapOp::Unpoint { frontend } => {
                        failed.insert(*frontend);
                    }
                }
            }
        }
        self.record_owners(changed);
        self.follow_connections(&ports);
        failed
            .iter()
            .filter_map(|frontend| self.owner.get(frontend))
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Live connections are counted where a service balances by them.
    fn follow_connections(&mut self, changed: &[ServicePort]) {
        let least = |target: &Target| target.balance == Balance::Least;
        // Of all that there is only when the last may have gone.
        let asked = changed.iter().any(|port| least(&port.target))
            || self.least && self.writer.current().services.values().any(least);
        self.least = asked;
        if let Err(error) = self.programs.follow_connections(asked) {
            warn!(
                error = chain(&error),
                "connections are not followed as they should be; trying again later"
            );
        }
    }

    fn record_owners(&mut self, changed: &BTreeMap<ObjectName, Vec<ServicePort>>) {
        for name in changed.keys() {
            for frontend in self.owned.remove(name).iter().flatten() {
                if self.owner.get(frontend) == Some(name) {
                    self.owner.remove(frontend);
                }
            }
        }
        for (name, ports) in changed {
            let frontends: BTreeSet<Frontend> = ports
                .iter()
                .flat_map(|port| port.frontends.keys())
                .copied()
                .collect();
            for frontend in &frontends {
                if let Some(other) = self.owner.insert(*frontend, name.clone()) {
                    warn!(%frontend, service = %name, %other, "two services have one address; the first is not served there");
                }
            }
            if !frontends.is_empty() {
                self.owned
                    .insert(name.clone(), frontends.into_iter().collect());
            }
        }
    }

    /// Whether somebody else changed the maps; then what they hold is the
    /// truth from now on, and [`Proxy::sync_all`] is called for.
    pub fn drifted(&mut self) -> Result<bool, Error> {
        self.writer.reap(Instant::now());
        if self.writer.agrees()? {
            return Ok(false);
        }
        self.writer.reload()?;
        Ok(true)
    }

    /// Puts right what the programs cannot see of live connections.
    pub fn recount(&mut self) -> Result<(), Error> {
        Ok(self.writer.recount()?)
    }

    /// What the node itself has and announces, and what others have, with the flags of
    /// [`vetch_ebpf_common::addresses`].
    pub fn set_node_addresses(&mut self, node: BTreeMap<IpAddr, u32>) -> Result<(), Error> {
        Ok(self.writer.set_node(node)?)
    }

    /// What the programs answer for as the node's, which nobody else has: an earlier daemon asked, or this one.
    pub fn announced(&self) -> BTreeSet<IpAddr> {
        self.writer.announced()
    }

    /// How many packets were dropped so far, or calls refused, for this reason.
    pub fn counted(&self, reason: Reason) -> Result<u64, Error> {
        let counts = counters::reasons(&self.maps_dir).map_err(|source| MapsError::Read {
            name: REASONS,
            source: Box::new(source),
        })?;
        let of = counts.into_iter().find(|(found, _)| *found == reason);
        Ok(of.map_or(0, |(_, count)| count))
    }

    /// Where the other nodes' pods are, and by which way they are reached.
    pub fn set_peer_pods(&mut self, ranges: &BTreeMap<IpNet, PeerPods>) -> Result<(), Error> {
        Ok(self.writer.set_peer_pods(ranges)?)
    }

    /// Whom pods reach with their own address, and as whom others see them behind each uplink.
    pub fn set_masquerade(
        &mut self,
        keep_source: &BTreeSet<IpNet>,
        sources: &BTreeMap<u32, Sources>,
    ) -> Result<(), Error> {
        Ok(self.writer.set_masquerade(keep_source, sources)?)
    }

    /// Where the node answers for the addresses it announces.
    pub fn set_uplinks(&mut self, uplinks: &[Uplink]) -> Result<(), Error> {
        Ok(self.writer.set_uplinks(uplinks)?)
    }

    /// How many entries of the maps were written or removed so far.
    pub fn map_writes(&self) -> u64 {
        self.writer.writes()
    }

    /// Takes what has outlived its time out of the connection tables.
    pub fn sweeper(&mut self) -> Result<Sweeper, Error> {
        Ok(Sweeper::open(self.programs.ebpf())?)
    }

    /// How full the tables are, those that a sweep found and those written here.
    pub fn tables(&mut self, found: &Sweep) -> Result<Vec<Table>, Error> {
        let used = self.writer.used().map(|(name, used)| {
            let used = u32::try_from(used).unwrap_or(u32::MAX);
            (name, used)
        });
        let mut tables = Vec::new();
        for (name, entries) in used.into_iter().chain(pressure::filled(found)) {
            let capacity = match self.capacities.get(name) {
                Some(capacity) => *capacity,
                None => {
                    let capacity = capacity(&self.maps_dir, name)?;
                    *self.capacities.entry(name).or_insert(capacity)
                }
            };
            tables.push(Table {
                name,
                entries,
                capacity,
            });
        }
        Ok(tables)
    }

    pub fn frontends(&self) -> usize {
        self.writer.current().frontends.len()
    }
}

/// Frontends and their backends as the kernel has them, whoever wrote them.
pub fn dump(pin_dir: &Path) -> Result<Current, Error> {
    Ok(Maps::open(&maps_dir(pin_dir))?.read()?)
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

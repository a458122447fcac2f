//! Keeps the maps, and all else that hangs on them, in step with what was said.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::{sync::watch as watch_channel, time::Instant};
use tracing::{info, warn};
use vetch_ebpf_common::{Reason, addresses};
use vetch_network::Owners;
use vetch_policy::{compile, explain, number, steps};

use super::seen::Seen;
use crate::{
    Error, ProxyConfig,
    announce::{Announcer, claimer::Claimer, claims::Conflict},
    health::node_ports::{NodePorts, Told},
    hooks::{Follow, HeldPods},
    index::ObjectName,
    masquerade::{keeps_source, sources},
    policy::{Rulebook, Words},
    pressure::{message, ports_ran_out, pressed},
    programs::maps_dir,
    proxy::{Proxy, chain},
    sweep::Swept,
    sys,
};

pub(super) struct Keeper {
    owners: watch_channel::Receiver<Option<Arc<Owners>>>,
    rulebook: Rulebook,
    words: Words,
    pub(super) seen: Seen,
    proxy: Proxy,
    pub(super) links: Follow,
    announcer: Announcer,
    pub(super) claimer: Claimer,
    node_ips: Vec<IpAddr>,
    /// Whom pods reach with their own address beside the cluster.
    non_masquerade: Vec<IpNet>,
    node_ports: NodePorts,
    told: Told,
    pub(super) in_sync: bool,
    /// What could not be served wholly.
    retry: BTreeSet<ObjectName>,
    /// Tables under pressure.
    pressed: BTreeSet<&'static str>,
    /// How often there was no source port, at the last look.
    without_port: Option<u64>,
}

impl Keeper {
    pub(super) fn new(
        config: &ProxyConfig,
        owners: watch_channel::Receiver<Option<Arc<Owners>>>,
        seen: Seen,
        proxy: Proxy,
        links: Follow,
    ) -> Result<Self, Error> {
        Ok(Self {
            owners,
            rulebook: Rulebook::open(&maps_dir(&config.pin_dir))?,
            words: Words::new(config.policies_file.clone(), &config.pin_dir),
            node_ports: NodePorts::new(seen.tell.health.clone()),
            told: Told::default(),
            seen,
            proxy,
            links,
            announcer: Announcer::default(),
            claimer: Claimer::default(),
            node_ips: config.node_ips.clone(),
            non_masquerade: config.non_masquerade_cidrs.clone(),
            in_sync: false,
            retry: BTreeSet::new(),
            pressed: BTreeSet::new(),
            without_port: None,
        })
    }

    pub(super) fn due(&self) -> bool {
        self.seen.index.complete() && (self.seen.index.has_changes() || !self.in_sync)
    }

    pub(super) fn write(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        let writes = self.proxy.map_writes();
        let full = !self.in_sync;
        let failed = if full {
            self.first_sync()?
        } else {
            self.proxy.sync(&self.seen.index.take_changes())
        };
        self.in_sync = true;
        self.retry.extend(failed);
        self.address();
        let now = Timestamp::now();
        let Seen { tell, triggers, .. } = &mut self.seen;
        tell.metrics.synced(started.elapsed(), full, now);
        tell.metrics
            .map_writes
            .inc_by(self.proxy.map_writes() - writes);
        for since in triggers.drain(..) {
            tell.metrics.programmed(since, now);
        }
        tell.health.in_sync(now);
        if full {
            sys::trim_heap();
        }
        Ok(())
    }

    /// The maps first, then the programs that read them.
    fn first_sync(&mut self) -> Result<Vec<ObjectName>, Error> {
        let started = Instant::now();
        self.follow_links(Follow::look);
        let failed = self.proxy.sync_all(&self.seen.index.take_all());
        // Sockets last: who is answered by a service's name is answered by its packets too.
        self.follow_pods();
        self.proxy.programs().attach()?;
        self.proxy.programs().remove_other_layouts()?;
        info!(frontends = self.proxy.frontends(), took = ?started.elapsed(), "service proxy in sync");
        Ok(failed)
    }

    /// Puts right what somebody else changed. What fails here was right once,
    /// so the next audit may find it so again.
    pub(super) fn check(&mut self) {
        self.seen.index.touch(std::mem::take(&mut self.retry));
        let drifted = self
            .proxy
            .drifted()
            .inspect_err(|error| warn!(error = chain(error), "cannot check the service maps"));
        if drifted.unwrap_or(false) {
            warn!("the service maps were changed by somebody else; writing them anew");
            self.seen.tell.metrics.drift.inc();
            let failed = self.proxy.sync_all(&self.seen.index.take_all());
            self.retry.extend(failed);
        }
        if let Err(error) = self.proxy.recount() {
            warn!(error = chain(&error), "cannot count live connections");
        }
        if let Err(error) = self.proxy.programs().attach() {
            warn!(error = chain(&error), "cannot check the service programs");
        }
        self.follow_links(Follow::audit);
        // Also what could not be written, and what others wrote.
        self.rulebook.doubt();
        self.seen.policies.touch();
        self.follow_pods();
        sys::trim_heap();
    }

    /// After a change of pods' links, or at the first: who is new is held at once.
    pub(super) fn follow_pods(&mut self) {
        let attached = self.links.attached();
        if let Some(pods) = attached {
            let owners = self.owners.borrow().clone();
            let local = pods.keys().copied();
            self.seen.policies.local(local, owners.as_deref());
        }
        if self.seen.policies.is_due() {
            self.hold();
        } else {
            self.follow_links(Follow::act);
        }
    }

    /// Writes what policies say: the rules, then the pods that they hold, then away with
    /// the rules that nobody has any more.
    pub(super) fn hold(&mut self) {
        let started = Instant::now();
        let mut now = match self.rulebook.held() {
            Ok(now) => now,
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "cannot read the rules of NetworkPolicies; trying again"
                );
                self.follow_links(Follow::act);
                return;
            }
        };
        now.pods = self.links.sets();
        let world = self.seen.policies.take();
        let compiled = compile(&world);
        let wanted = number(&compiled, &now);
        let steps = steps(&now, &wanted);
        self.rulebook.before(&steps);
        self.links.set_held(HeldPods {
            in_force: world.has_policies(),
            sets: wanted.pods.clone(),
        });
        self.follow_links(Follow::act);
        if !steps.is_empty() {
            tracing::debug!(
                policies = world.policies.len(),
                admin_policies = world.admin.len(),
                rules = wanted.rules.len(),
                identities = wanted.identities.len(),
                writes = steps.len(),
                took = ?started.elapsed(),
                "NetworkPolicies written"
            );
        }
        let writes = steps.len() as u64;
        self.seen.tell.metrics.map_writes.inc_by(writes);
        self.words.write(explain(&compiled, &wanted));
        self.rulebook.after(&steps, wanted);
    }

    /// Tells how full the tables are.
    pub(super) fn swept(&mut self, swept: &Swept) {
        let tables = match self.proxy.tables(&swept.found) {
            Ok(tables) => tables,
            Err(error) => {
                warn!(error = chain(&error), "cannot tell how full the tables are");
                return;
            }
        };
        self.pressed = pressed(&tables, &self.pressed);
        let no_ports = match self.proxy.counted(Reason::SourcePorts) {
            Ok(now) => ports_ran_out(self.without_port.replace(now), now),
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "cannot tell whether source ports ran out"
                );
                false
            }
        };
        let word = message(&tables, &self.pressed, no_ports);
        self.seen.tell.pressure.send_if_modified(|told| {
            let news = *told != word;
            *told = word;
            news
        });
        self.seen.tell.metrics.swept(swept, tables);
    }

    fn follow_links(&mut self, job: impl FnOnce(&mut Follow)) {
        job(&mut self.links);
        self.address();
    }

    /// What the node has and announces: the programs first, then its neighbours.
    fn address(&mut self) {
        self.seen.index.node_addresses(self.links.node_addresses());
        let mut node: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for ip in self.links.node_addresses() {
            *node.entry(*ip).or_default() |= addresses::NODE;
        }
        let uplinks = self.links.uplinks();
        let wanted = self.seen.index.announced();
        self.claimer.set(
            wanted.iter().chain(&self.node_ips).copied().collect(),
            &self.proxy.announced(),
            (&uplinks, self.seen.index.peers()),
        );
        let announced: BTreeSet<IpAddr> = &wanted & &self.claimer.held();
        for ip in &announced {
            *node.entry(*ip).or_default() |= addresses::ANNOUNCED;
        }
        for ip in self.seen.index.peers() {
            *node.entry(*ip).or_default() |= addresses::PEER;
        }
        // Nothing is announced in the tunnel.
        let and_tunnel: Vec<_> = uplinks.iter().copied().chain(self.links.tunnel()).collect();
        let ways = self.links.ways(self.seen.index.peer_pods());
        let keep_source = keeps_source(self.seen.index.cluster(), &self.non_masquerade);
        let sources = sources(&self.links.uplink_addresses(), &self.node_ips);
        let written = self
            .proxy
            .set_uplinks(&and_tunnel)
            .and_then(|()| self.proxy.set_node_addresses(node))
            .and_then(|()| self.proxy.set_peer_pods(&ways))
            .and_then(|()| self.proxy.set_masquerade(&keep_source, &sources));
        if let Err(error) = written {
            warn!(
                error = chain(&error),
                "not every address of the nodes is known to the programs; trying again later"
            );
        }
        self.announcer.set(&uplinks, &announced);
    }

    /// Others were asked for addresses, and answered for these.
    pub(super) fn claimed(&mut self, conflicts: Vec<Conflict>) {
        let Seen { index, tell, .. } = &self.seen;
        for conflict in conflicts {
            if self.node_ips.contains(&conflict.address) {
                tell.events.node_conflict(&conflict);
            }
            for service in index.who_announces(conflict.address) {
                let uid = index.uid(&service);
                tell.events.conflict(&conflict, service, uid);
            }
        }
        tell.metrics.conflicts(self.claimer.taken());
        self.address();
    }

    /// After the maps: who asks hears of an endpoint when it can be reached.
    pub(super) async fn tell(&mut self) {
        for report in self.seen.index.take_reports() {
            self.seen.tell.events.problem(report);
        }
        let failed = self.node_ports.reconcile(self.seen.index.health()).await;
        for failed in self.told.news(failed) {
            let uid = self.seen.index.uid(&failed.service);
            self.seen.tell.events.health_check(failed, uid);
        }
    }
}

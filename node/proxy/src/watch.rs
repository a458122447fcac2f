//! Watches Services, EndpointSlices, Nodes and the host ports of pods, and keeps the maps in step.
//!
//! Input: the watch streams, the node's links, and a timer. Output: the maps,
//! the programs in the kernel, announcements, health checks, Events, metrics.
//! Nothing is written, and nothing attached, before all of them have been listed
//! once. They are listed while the programs are loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt, stream::BoxStream};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use tokio::{
    sync::watch as watch_channel,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vetch_ebpf_common::{Reason, addresses};
use vetch_network::Owners;
use vetch_policy::{compile, explain, number, steps};

use crate::{
    Error, HostPorts, ProxyConfig, TablePressure, Tap,
    announce::{Announcer, claimer::Claimer, claims::Conflict},
    events::Events,
    health::{
        DELETION_TAINT, Health,
        node_ports::{NodePorts, Told},
    },
    hooks::{Follow, HeldPods},
    index::{Index, ObjectName},
    masquerade::{keeps_source, sources},
    metrics::Metrics,
    policy::{self, AdminKind, Rulebook, Words},
    pressure::{message, ports_ran_out, pressed},
    programs::maps_dir,
    proxy::{Proxy, chain},
    ring,
    sweep::{Sweeps, Swept},
    sys, trace,
};

/// Changes that come within this of the last write are written together; a
/// change after a pause is written at once.
const BATCH: Duration = Duration::from_millis(50);

/// How often the maps are read back.
const AUDIT: Duration = Duration::from_secs(60);

/// How long a daemon that starts waits for policies before it serves without knowing
/// them. Who is held already stays so; who is new is let through when they are known.
const POLICIES_WAIT: Duration = Duration::from_secs(5);

/// When a controller saw what it then wrote into the slice.
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Who is told what becomes of the services.
pub struct Tell {
    pub health: Health,
    pub metrics: Metrics,
    pub events: Events,
    pub pressure: TablePressure,
}

/// Who says what there is to serve.
pub struct Sources {
    pub client: Client,
    pub host_ports: HostPorts,
    pub owners: watch_channel::Receiver<Option<Arc<Owners>>>,
}

/// `opening` loads the programs: what there is to serve is listed meanwhile.
pub async fn keep_in_step(
    sources: Sources,
    opening: impl Future<Output = Result<(Proxy, Follow), Error>>,
    config: &ProxyConfig,
    tell: Tell,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let owners = sources.owners.clone();
    let mut feed = Feed::new(sources);
    let mut seen = Seen {
        node_name: config.node_name.clone(),
        policies: policy::Index::new(config.node_name.clone()),
        index: Index::new(config.node_name.clone(), config.service_proxy_name.clone()),
        tap: config.tap.clone(),
        tell,
        triggers: Vec::new(),
    };
    seen.index.answer_here(config.own_service.clone());
    let mut opening = pin!(opening);
    let (mut proxy, links) = loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            opened = &mut opening => break opened?,
            () = feed.next(&mut seen) => {}
        }
    };
    let mut programs_log = pin!(trace::forward(trace::logger(proxy.programs().ebpf())));
    let maps_dir = maps_dir(&config.pin_dir);
    let mut room = pin!(ring::keep_room(&maps_dir));
    let mut sweeps = Sweeps::new(proxy.sweeper()?);
    let rulebook = Rulebook::open(&maps_dir)?;
    let mut keeper = Keeper {
        owners,
        rulebook,
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
    };
    let mut audit = interval(AUDIT);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_write = Instant::now();
    let mut next_rules = next_write;
    let patience = next_write + POLICIES_WAIT;
    loop {
        // Services do not wait for ever for what policies say of pods.
        let begin = if keeper.in_sync || keeper.seen.policies.complete() {
            next_write
        } else {
            patience
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = &mut programs_log => return Ok(()),
            never = &mut room => match never {},
            () = feed.next(&mut keeper.seen) => {}
            () = sleep_until(begin), if keeper.due() => {
                keeper.write()?;
                keeper.tell().await;
                next_write = Instant::now() + BATCH;
            }
            () = sleep_until(next_rules), if keeper.in_sync && keeper.seen.policies.is_due() => {
                keeper.hold();
                next_rules = Instant::now() + BATCH;
            }
            () = keeper.links.due(), if keeper.in_sync => keeper.follow_pods(),
            swept = sweeps.next() => keeper.swept(&swept),
            conflicts = keeper.claimer.next(), if keeper.in_sync => keeper.claimed(conflicts),
            _ = audit.tick(), if keeper.in_sync => {
                keeper.check();
                keeper.tell().await;
            }
        }
    }
}

/// What the API server and the node's network say.
struct Feed {
    services: BoxStream<'static, Event<Service>>,
    slices: BoxStream<'static, Event<EndpointSlice>>,
    nodes: BoxStream<'static, Event<Node>>,
    host_ports: HostPorts,
    client: Client,
    policies: BoxStream<'static, Result<Event<NetworkPolicy>, watcher::Error>>,
    admin: BoxStream<'static, policy::Told>,
    baseline: BoxStream<'static, policy::Told>,
    /// While there are policies.
    peers: Option<Peers>,
}

/// Whom policies may be about.
struct Peers {
    namespaces: BoxStream<'static, Event<Namespace>>,
    pods: BoxStream<'static, Event<Pod>>,
}

enum Peer {
    Namespace(Event<Namespace>),
    Pod(Event<Pod>),
}

impl Peers {
    fn new(client: &Client) -> Self {
        let everything = watcher::Config::default;
        Self {
            namespaces: watch(Api::all(client.clone()), everything()).boxed(),
            pods: watch(Api::all(client.clone()), everything()).boxed(),
        }
    }

    async fn next(peers: &mut Option<Self>) -> Peer {
        let Some(Self { namespaces, pods }) = peers else {
            return std::future::pending().await;
        };
        tokio::select! {
            Some(event) = namespaces.next() => Peer::Namespace(event),
            Some(event) = pods.next() => Peer::Pod(event),
            else => std::future::pending().await,
        }
    }
}

impl Feed {
    fn new(sources: Sources) -> Self {
        let Sources {
            client,
            mut host_ports,
            owners: _,
        } = sources;
        // What was told before is news here.
        host_ports.mark_changed();
        let everything = watcher::Config::default;
        Self {
            services: watch(Api::all(client.clone()), everything()).boxed(),
            slices: watch(Api::all(client.clone()), everything()).boxed(),
            nodes: watch(Api::all(client.clone()), everything()).boxed(),
            host_ports,
            policies: watcher::watcher(Api::all(client.clone()), everything())
                .default_backoff()
                .boxed(),
            admin: policy::watch(&client, AdminKind::Admin),
            baseline: policy::watch(&client, AdminKind::Baseline),
            peers: None,
            client,
        }
    }

    /// Nothing is lost when the future is dropped.
    async fn next(&mut self, seen: &mut Seen) {
        if !seen.policies.wants_peers() {
            self.peers = None;
        } else if self.peers.is_none() {
            self.peers = Some(Peers::new(&self.client));
        }
        tokio::select! {
            Some(event) = self.policies.next() => seen.policy(event),
            Some(told) = self.admin.next() => seen.admin_policy(AdminKind::Admin, told),
            Some(told) = self.baseline.next() => seen.admin_policy(AdminKind::Baseline, told),
            peer = Peers::next(&mut self.peers) => match peer {
                Peer::Namespace(event) => seen.policies.namespace(event),
                Peer::Pod(event) => seen.policies.pod(event),
            },
            Some(event) = self.services.next() => seen.service(event),
            Some(event) = self.slices.next() => seen.slice(event),
            Some(event) = self.nodes.next() => seen.node(event),
            // Without a network any more the daemon is about to end.
            Ok(()) = self.host_ports.changed() => {
                seen.host_ports(self.host_ports.borrow_and_update().clone());
            }
            // The streams try again for ever.
            else => std::future::pending().await,
        }
    }
}

/// What it said, and is not written yet.
struct Seen {
    node_name: String,
    index: Index,
    policies: policy::Index,
    tap: Option<Arc<dyn Tap>>,
    tell: Tell,
    /// When the changes that are not written yet came to be.
    triggers: Vec<Timestamp>,
}

impl Seen {
    fn service(&mut self, event: Event<Service>) {
        self.tell.metrics.service_changes.inc();
        if let Some(tap) = &self.tap {
            tap.service(&event);
        }
        self.index.service(event);
        self.note_change();
    }

    fn slice(&mut self, event: Event<EndpointSlice>) {
        self.tell.metrics.endpoint_changes.inc();
        if let Some(tap) = &self.tap {
            tap.slice(&event);
        }
        let trigger = match &event {
            // What a LIST brings is old news.
            Event::Apply(slice) => slice
                .annotations()
                .get(TRIGGER_ANNOTATION)
                .and_then(|time| time.parse::<Timestamp>().ok()),
            _ => None,
        };
        self.index.slice(event);
        if self.index.has_changes() {
            self.triggers.extend(trigger);
        }
        self.note_change();
    }

    fn node(&mut self, event: Event<Node>) {
        if let Event::Apply(node) | Event::InitApply(node) = &event
            && node.name_any() == self.node_name
        {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            let mut taints = taints.into_iter().flatten();
            let leaving = taints.any(|taint| taint.key == DELETION_TAINT);
            self.tell.health.set_eligible(!leaving);
        }
        self.policies.node(event.clone());
        self.index.node(event);
        self.note_change();
    }

    fn policy(&mut self, event: Result<Event<NetworkPolicy>, watcher::Error>) {
        match event {
            Ok(event) => self.policies.policy(event),
            Err(error) if is_unknown_kind(&error) => self.policies.no_policies(),
            Err(error) => warn!(
                %error,
                "cannot read NetworkPolicies, and pods that are new here wait for them: this node's user must \
                 be allowed to list and watch networkpolicies.networking.k8s.io, namespaces and pods of the \
                 whole cluster; trying again"
            ),
        }
    }

    fn admin_policy(&mut self, of: AdminKind, told: policy::Told) {
        match told {
            policy::Told::Event(event) => self.policies.admin_policy(of, event),
            policy::Told::NotServed => self.policies.no_admin_policies(of),
            policy::Told::Failed(error) => warn!(
                %error,
                "cannot read {plural}, and pods that are new here wait for them: this node's user must be \
                 allowed to list and watch {plural}.policy.networking.k8s.io; trying again",
                plural = of.plural(),
            ),
        }
    }

    fn host_ports(&mut self, pods: Option<Arc<vetch_network::HostPorts>>) {
        if let Some(pods) = pods {
            self.index.host_ports(pods);
            self.note_change();
        }
    }

    fn note_change(&self) {
        if self.index.has_changes() {
            self.tell.health.change_waits(std::time::Instant::now());
        }
    }
}

/// Whether the API server does not serve the kind.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

struct Keeper {
    owners: watch_channel::Receiver<Option<Arc<Owners>>>,
    rulebook: Rulebook,
    words: Words,
    seen: Seen,
    proxy: Proxy,
    links: Follow,
    announcer: Announcer,
    claimer: Claimer,
    node_ips: Vec<IpAddr>,
    /// Whom pods reach with their own address beside the cluster.
    non_masquerade: Vec<IpNet>,
    node_ports: NodePorts,
    told: Told,
    in_sync: bool,
    /// What could not be served wholly.
    retry: BTreeSet<ObjectName>,
    /// Tables under pressure.
    pressed: BTreeSet<&'static str>,
    /// How often there was no source port, at the last look.
    without_port: Option<u64>,
}

impl Keeper {
    fn due(&self) -> bool {
        self.seen.index.complete() && (self.seen.index.has_changes() || !self.in_sync)
    }

    fn write(&mut self) -> Result<(), Error> {
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
    fn check(&mut self) {
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
    fn follow_pods(&mut self) {
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
    fn hold(&mut self) {
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
    fn swept(&mut self, swept: &Swept) {
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
    fn claimed(&mut self, conflicts: Vec<Conflict>) {
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
    async fn tell(&mut self) {
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

/// The events of one kind, tried again for ever.
fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Event<K>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
    K::DynamicType: Default,
{
    watcher::watcher(api, config).default_backoff().filter_map(|event| async {
        event.inspect_err(|error| warn!(kind = %K::kind(&Default::default()), %error, "watch broke; trying again")).ok()
    })
}

//! Addresses for services of type LoadBalancer, from a pool, and the node that announces them.
//!
//! One pass writes both into the service: the addresses into its status, the node's name into the annotation
//! [`ANNOUNCED_BY`], which tells the nodes whose turn it is.

mod announce;
mod assign;
mod ledger;
mod pool;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::announce::{announcer, local_nodes, standing};
use self::assign::{Assignment, Problem, Wish, assign};
use self::ledger::{Ledger, Owner, Right};
use self::pool::Pool;
pub use self::pool::{AddressRange, RangeError};
use crate::endpoint_slice::of_service;
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, name_of};
use crate::queue::Queue;
use crate::service::{self, Family, families};
use crate::worker::{Next, Reconcile};

/// The class of services that are ours by name; those that name none are ours too.
const CLASS: &str = "vetch.dev/pool";
pub const ANNOUNCED_BY: &str = "vetch.dev/announced-by";
/// When a service that still lacks what it asks for is told so again.
const REMIND: Duration = Duration::from_secs(600);

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// The last address given of each family.
    last: HashMap<Family, IpAddr>,
    /// Services that did not get all they ask for, and when they were last told.
    waiting: BTreeMap<ObjectKey, (Vec<Problem>, Instant)>,
}

pub struct LoadBalancers {
    client: Client,
    events: Recorder,
    pool: Pool,
    services: Arc<Informer<Service>>,
    slices: Arc<Informer<EndpointSlice>>,
    nodes: Arc<Informer<Node>>,
    state: Arc<Mutex<State>>,
}

impl LoadBalancers {
    pub fn new(
        client: Client,
        ranges: Vec<AddressRange>,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> LoadBalancers {
        let state = Arc::new(Mutex::new(State::default()));
        let (keys, own) = (queue.clone(), state.clone());
        informers.services.listen(move |change: &Change<Service>| {
            service_changed(change, &own, &keys);
        });
        let (keys, services) = (queue.clone(), informers.services.clone());
        informers
            .endpoint_slices
            .listen(move |change: &Change<EndpointSlice>| {
                slice_changed(change, &services, &keys);
            });
        let (keys, services, own) = (queue.clone(), informers.services.clone(), state.clone());
        informers.nodes.listen(move |change: &Change<Node>| {
            node_changed(change, &services, &own, &keys);
        });
        LoadBalancers {
            client,
            events: events.of("load-balancer-controller"),
            pool: Pool::new(ranges),
            services: informers.services.clone(),
            slices: informers.endpoint_slices.clone(),
            nodes: informers.nodes.clone(),
            state,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_balanced(service: &Service) -> bool {
    service::spec(service).and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

fn is_ours(service: &Service) -> bool {
    let class = service::spec(service).and_then(|spec| spec.load_balancer_class.as_deref());
    is_balanced(service) && class.is_none_or(|class| class == CLASS)
}

fn is_local(service: &Service) -> bool {
    let policy = service::spec(service).and_then(|spec| spec.external_traffic_policy.as_deref());
    policy == Some("Local")
}

fn ingress(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|own| own.ingress.as_deref());
    ingress.unwrap_or_default()
}

fn given(service: &Service) -> Vec<IpAddr> {
    let texts = ingress(service).iter().filter_map(|own| own.ip.as_deref());
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn right(service: &Service) -> Right {
    let created = service.metadata.creation_timestamp.as_ref();
    Right::Given(created.map_or(Timestamp::MAX, |time| time.0))
}

/// What the service keeps others from: its status, of whatever class, and what it says itself.
fn holdings(service: &Service) -> BTreeSet<(IpAddr, Right)> {
    let mut holdings = BTreeSet::new();
    if is_balanced(service) {
        let own = right(service);
        holdings.extend(given(service).into_iter().map(|address| (address, own)));
    }
    let said = service::spec(service).and_then(|spec| spec.external_ips.as_deref());
    let said = said.unwrap_or_default().iter();
    let said = said.filter_map(|text| text.parse().ok());
    holdings.extend(said.map(|address| (address, Right::Said)));
    holdings
}

fn service_changed(change: &Change<Service>, state: &Mutex<State>, queue: &Queue<ObjectKey>) {
    let Some(service) = change.latest() else {
        return;
    };
    let key = ObjectKey::of(service.as_ref());
    let owner = Owner::Service(key.clone());
    let mut state = lock(state);
    let mut freed = match &change.new {
        Some(new) => state.ledger.observe(&owner, holdings(new)),
        None => state.ledger.observe(&owner, BTreeSet::new()),
    };
    if !change.new.as_deref().is_some_and(is_ours) {
        freed |= state.ledger.release(&owner);
        state.waiting.remove(&key);
    }
    if freed {
        state.waiting.keys().for_each(|key| queue.add(key.clone()));
    }
    drop(state);
    queue.add(key);
}

/// Where traffic stays on its node, endpoints decide who may announce.
fn slice_changed(
    change: &Change<EndpointSlice>,
    services: &Informer<Service>,
    queue: &Queue<ObjectKey>,
) {
    let keys: BTreeSet<ObjectKey> = change
        .each()
        .filter_map(|slice| of_service(slice))
        .collect();
    for key in keys {
        let service = services.get(&key);
        if service.is_some_and(|service| is_ours(&service) && is_local(&service)) {
            queue.add(key);
        }
    }
}

fn node_changed(
    change: &Change<Node>,
    services: &Informer<Service>,
    state: &Mutex<State>,
    queue: &Queue<ObjectKey>,
) {
    let Some(node) = change.latest() else {
        return;
    };
    let own = change.new.as_deref().map(addresses).unwrap_or_default();
    let owner = Owner::Node(name_of(node.as_ref()).to_owned());
    lock(state).ledger.observe(&owner, own);
    let stood = |node: &Option<Arc<Node>>| node.as_deref().map(standing);
    if stood(&change.old) != stood(&change.new) {
        for service in services.all().iter().filter(|service| is_ours(service)) {
            queue.add(ObjectKey::of(service.as_ref()));
        }
    }
}

fn addresses(node: &Node) -> BTreeSet<(IpAddr, Right)> {
    let status = node.status.as_ref();
    let all = status.and_then(|status| status.addresses.as_deref());
    let all = all.unwrap_or_default().iter();
    let all = all.filter_map(|own| own.address.parse().ok());
    all.map(|address| (address, Right::Own)).collect()
}

/// What one pass decided about a service of ours.
struct Decision {
    assignment: Assignment,
    /// It was not told of these problems, or long ago.
    tell: bool,
    announced_by: Option<String>,
}

impl LoadBalancers {
    fn decide(&self, key: &ObjectKey, service: &Service) -> Decision {
        let owner = Owner::Service(key.clone());
        let own = right(service);
        let spec = service::spec(service);
        let families = families(service);
        let mut state = lock(&self.state);
        let held = state.ledger.reserved(&owner);
        let held = held.unwrap_or_else(|| given(service));
        let wish = Wish {
            families: &families,
            requested: spec
                .and_then(|spec| spec.load_balancer_ip.as_deref())
                .unwrap_or_default(),
            held: &held,
        };
        let (ledger, last) = (&state.ledger, &state.last);
        let rival = |address: IpAddr| {
            let rival = ledger.rival(address, &owner, own);
            rival.map(ToString::to_string)
        };
        let next_free = |family: Family| {
            let is_free = |address| rival(address).is_none();
            self.pool
                .next_free(family, last.get(&family).copied(), is_free)
        };
        let assignment = assign(&self.pool, &wish, rival, next_free);
        for address in &assignment.addresses {
            if !held.contains(address) {
                state.last.insert(Family::of_ip(*address), *address);
            }
        }
        let reserved = assignment.addresses.iter().map(|address| (*address, own));
        // What it gave up is free for others once the cache shows it.
        state.ledger.reserve(&owner, reserved.collect());
        let tell = note(&mut state, key, &assignment.problems);
        drop(state);
        Decision {
            announced_by: self.announcer(key, service, &assignment.addresses),
            assignment,
            tell,
        }
    }

    fn announcer(
        &self,
        key: &ObjectKey,
        service: &Service,
        addresses: &[IpAddr],
    ) -> Option<String> {
        let address = *addresses.first()?;
        let slices = match is_local(service) {
            true => self.slices.of(key),
            false => Vec::new(),
        };
        let local = is_local(service).then(|| local_nodes(&slices));
        let nodes = self.nodes.all();
        let announcer = announcer(address, announced_by(service), &nodes, local.as_ref());
        announcer.map(str::to_owned)
    }

    async fn write(&self, key: &ObjectKey, service: &Service, decision: &Decision) -> Result<()> {
        let addresses = &decision.assignment.addresses;
        let wanted: Vec<LoadBalancerIngress> = addresses
            .iter()
            .map(|address| LoadBalancerIngress {
                ip: Some(address.to_string()),
                ip_mode: Some("VIP".into()),
                ..LoadBalancerIngress::default()
            })
            .collect();
        let before = announced_by(service);
        if ingress(service) == wanted && before == decision.announced_by.as_deref() {
            return Ok(());
        }
        let shown = match wanted.is_empty() {
            true => Value::Null,
            false => json!(wanted),
        };
        let mut patch = json!({
            "metadata": {"uid": service.metadata.uid},
            "status": {"loadBalancer": {"ingress": shown}},
        });
        if before != decision.announced_by.as_deref() {
            patch["metadata"]["annotations"] = json!({ANNOUNCED_BY: decision.announced_by});
        }
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let patched = api
            .patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let patched = found(patched).during(|| format!("write the addresses of service {key}"))?;
        if let (Some(service), Some(node)) = (patched, &decision.announced_by)
            && Some(node.as_str()) != before
        {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let message = format!("node {node} announces {}", texts.join(","));
            self.events
                .record(&service, Note::normal("Announced", message));
        }
        Ok(())
    }

    /// A service that is ours no longer announces nothing.
    async fn clear(&self, key: &ObjectKey, service: &Service) -> Result<()> {
        if announced_by(service).is_none() {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"uid": service.metadata.uid, "annotations": {ANNOUNCED_BY: null}},
        });
        let api: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let patched = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let patched = found(patched);
        patched
            .during(|| format!("take {ANNOUNCED_BY} from service {key}"))
            .map(drop)
    }
}

fn announced_by(service: &Service) -> Option<&str> {
    let annotations = service.metadata.annotations.as_ref()?;
    annotations.get(ANNOUNCED_BY).map(String::as_str)
}

/// Remembers what the service lacks. Answers whether people should be told.
fn note(state: &mut State, key: &ObjectKey, problems: &[Problem]) -> bool {
    if problems.is_empty() {
        state.waiting.remove(key);
        return false;
    }
    let now = Instant::now();
    let known = state.waiting.get(key);
    let tell = known.is_none_or(|(told, at)| told != problems || now - *at >= REMIND);
    if tell {
        let entry = (problems.to_vec(), now);
        state.waiting.insert(key.clone(), entry);
    }
    tell
}

impl Reconcile for LoadBalancers {
    type Key = ObjectKey;

    const NAME: &'static str = "loadbalancer";
    /// Two at once could take one address for free.
    const WORKERS: usize = 1;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(service) = self.services.get(key) else {
            return Ok(Next::OnChange);
        };
        if !is_ours(&service) {
            return self.clear(key, &service).await.map(|()| Next::OnChange);
        }
        let decision = self.decide(key, &service);
        if decision.tell {
            for problem in &decision.assignment.problems {
                let note = Note::warning(problem.reason(), problem.message(&self.pool));
                self.events.record(service.as_ref(), note);
            }
        }
        self.write(key, &service, &decision).await?;
        Ok(match decision.assignment.problems.is_empty() {
            true => Next::OnChange,
            false => Next::After(REMIND),
        })
    }
}

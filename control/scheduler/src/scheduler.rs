//! What is known and what waits; from what is observed to what is to be done, without doing it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Service,
};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::runtime::watcher;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use crate::cache::{Cache, PodChange};
use crate::decide::{Decision, View, decide};
use crate::diagnosis;
use crate::filter::{Filter, Refusal};
use crate::hints::Event;
use crate::mirror::{Change, Mirror};
use crate::node_info::NodeChange;
use crate::pod_info::{PodInfo, is_terminal, node_of, uid};
use crate::preempt::{Preemption, preempt};
use crate::queue::Queue;
use crate::volumes::{Plan, PodClaims};

/// The scheduler's name in pod specs and events.
pub const NAME: &str = "default-scheduler";

#[expect(
    clippy::large_enum_variant,
    reason = "taken apart as soon as it is made, never kept"
)]
pub enum Input {
    Node(watcher::Event<Node>),
    Pod(watcher::Event<Pod>),
    Namespace(watcher::Event<Namespace>),
    Service(watcher::Event<Service>),
    Claim(watcher::Event<PersistentVolumeClaim>),
    Volume(watcher::Event<PersistentVolume>),
    Class(watcher::Event<StorageClass>),
}

/// What a decision asks for. Each may be done beside the others.
#[derive(Debug)]
pub enum Effect {
    Bind {
        pod: Arc<PodInfo>,
        node: String,
    },
    /// Have its claims bound for the node. When they are it is decided on again, and only then bound itself.
    Claim {
        pod: Arc<PodInfo>,
        node: String,
        plan: Plan,
    },
    /// Tell people that it runs nowhere.
    Refuse {
        pod: Arc<PodInfo>,
        message: String,
        /// The node that was cleared for it before and still is.
        nominated: Option<String>,
    },
    /// Tell people, and make room: the outcome says when all victims have been told to go.
    Preempt {
        pod: Arc<PodInfo>,
        message: String,
        node: String,
        victims: Vec<Arc<PodInfo>>,
        /// Less important pods that had counted on the node.
        displaced: Vec<Arc<PodInfo>>,
    },
}

#[derive(Debug)]
pub enum Outcome {
    BindingFailed {
        uid: String,
    },
    Preempted {
        uid: String,
    },
    /// What its claims need was written.
    Claimed {
        uid: String,
    },
    /// Somebody was faster, or it was refused; with the names of the volumes that were to be given.
    ClaimingFailed {
        uid: String,
        volumes: Vec<String>,
    },
}

pub struct Scheduler {
    nodes: Mirror<Node>,
    pods: Mirror<Pod>,
    namespaces: Mirror<Namespace>,
    services: Mirror<Service>,
    claims: Mirror<PersistentVolumeClaim>,
    volumes: Mirror<PersistentVolume>,
    classes: Mirror<StorageClass>,
    cache: Cache,
    queue: Queue,
    lot: SmallRng,
}

impl Scheduler {
    /// Equal seeds and inputs give equal decisions.
    pub fn new(seed: u64) -> Scheduler {
        Scheduler {
            nodes: Mirror::default(),
            pods: Mirror::default(),
            namespaces: Mirror::default(),
            services: Mirror::default(),
            claims: Mirror::default(),
            volumes: Mirror::default(),
            classes: Mirror::default(),
            cache: Cache::default(),
            queue: Queue::default(),
            lot: SmallRng::seed_from_u64(seed),
        }
    }

    pub fn observe(&mut self, input: Input) {
        match input {
            Input::Node(event) => {
                for change in self.nodes.apply(event) {
                    self.node(&change);
                }
            }
            Input::Pod(event) => {
                for change in self.pods.apply(event) {
                    self.pod(&change);
                }
            }
            Input::Namespace(event) => {
                for change in self.namespaces.apply(event) {
                    self.namespace(&change);
                }
            }
            Input::Service(event) => {
                for change in self.services.apply(event) {
                    self.service(&change);
                }
            }
            Input::Claim(event) => {
                for change in self.claims.apply(event) {
                    let (namespace, name) = named(&change);
                    self.cache.volumes.set_claim(&namespace, &name, change.new);
                    self.queue.wake(Event::VolumesChanged);
                }
            }
            Input::Volume(event) => {
                for change in self.volumes.apply(event) {
                    let (_, name) = named(&change);
                    self.cache.volumes.set_volume(&name, change.new);
                    self.queue.wake(Event::VolumesChanged);
                }
            }
            Input::Class(event) => {
                for change in self.classes.apply(event) {
                    let (_, name) = named(&change);
                    self.cache.volumes.set_class(&name, change.new);
                    self.queue.wake(Event::VolumesChanged);
                }
            }
        }
    }

    pub fn finish(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::BindingFailed { uid } => {
                self.queue.failed(&uid);
                let change = self.cache.forget(&uid);
                self.wake(change);
            }
            Outcome::Preempted { uid } => self.queue.unschedulable(&uid, now),
            Outcome::Claimed { uid } => self.queue.waits_for_volumes(&uid, now),
            Outcome::ClaimingFailed { uid, volumes } => {
                self.cache.volumes.take_back(&volumes);
                self.queue.failed(&uid);
                self.queue.wake(Event::VolumesChanged);
            }
        }
    }

    /// Whether there is a pod to decide on, and everything is known that a decision needs.
    pub fn is_ready(&self) -> bool {
        self.queue.is_ready()
            && self.nodes.is_synced()
            && self.pods.is_synced()
            && self.namespaces.is_synced()
            && self.services.is_synced()
            && self.claims.is_synced()
            && self.volumes.is_synced()
            && self.classes.is_synced()
    }

    /// When to call `tick`.
    pub fn next_tick(&self) -> Option<Instant> {
        self.queue.next_tick()
    }

    pub fn tick(&mut self, now: Instant) {
        self.queue.tick(now);
    }

    /// Decides on the next pod.
    pub fn decide(&mut self, now: Instant, clock: Timestamp) -> Option<Effect> {
        let pod = self.queue.pop(now)?;
        let view = self.cache.view();
        match decide(&pod, &view, &mut self.lot) {
            Decision::Node(node) => {
                let plan = plan(&pod, &node, &view);
                if !plan.is_empty() {
                    self.cache.volumes.give(&plan);
                    let by = BTreeSet::from([Filter::VolumeBinding]);
                    self.queue.refuse(pod.uid(), by);
                    return Some(Effect::Claim { pod, node, plan });
                }
                self.cache.assume(&pod, &node);
                self.queue.wake(Event::PodAdded);
                Some(Effect::Bind { pod, node })
            }
            Decision::Missing(what) => {
                let message = diagnosis::missing(view.nodes.len(), &what);
                Some(self.refuse(pod, message, BTreeSet::from([Filter::Claims]), None, now))
            }
            Decision::Nowhere(refusals) if refusals.is_empty() => {
                let message = diagnosis::NO_NODES.to_owned();
                Some(self.refuse(pod, message, BTreeSet::new(), None, now))
            }
            Decision::Nowhere(refusals) => Some(self.make_room(pod, &refusals, now, clock)),
        }
    }

    fn make_room(
        &mut self,
        pod: Arc<PodInfo>,
        refusals: &[(String, Refusal)],
        now: Instant,
        clock: Timestamp,
    ) -> Effect {
        let filters = refusals.iter().map(|(_, refusal)| refusal.filter).collect();
        let view = self.cache.view();
        match preempt(&pod, &view, refusals, clock, &mut self.lot) {
            Preemption::Ineligible(why) => {
                let message = diagnosis::refused(refusals, Some(why));
                let nominated = self.cache.nominated.get(pod.uid());
                let nominated = nominated.map(|(node, _)| node.clone());
                self.refuse(pod, message, filters, nominated, now)
            }
            Preemption::Helpless(why) => {
                let message = diagnosis::refused(refusals, Some(&why));
                self.refuse(pod, message, filters, None, now)
            }
            Preemption::Victims { node, victims } => {
                let lower = |other: &PodInfo| other.priority() < pod.priority();
                let counted_on_it = self.cache.nominated.values();
                let displaced: Vec<Arc<PodInfo>> = counted_on_it
                    .filter(|(on, other)| *on == node && lower(other))
                    .map(|(_, other)| other.clone())
                    .collect();
                for other in &displaced {
                    self.cache.nominated.remove(other.uid());
                }
                self.cache.nominate(pod.clone(), &node);
                self.queue.refuse(pod.uid(), filters);
                Effect::Preempt {
                    message: diagnosis::refused(refusals, None),
                    pod,
                    node,
                    victims,
                    displaced,
                }
            }
        }
    }

    fn refuse(
        &mut self,
        pod: Arc<PodInfo>,
        message: String,
        by: BTreeSet<Filter>,
        nominated: Option<String>,
        now: Instant,
    ) -> Effect {
        if nominated.is_none() {
            self.cache.nominated.remove(pod.uid());
        }
        self.queue.refuse(pod.uid(), by);
        self.queue.unschedulable(pod.uid(), now);
        Effect::Refuse {
            pod,
            message,
            nominated,
        }
    }

    fn node(&mut self, change: &Change<Node>) {
        let Some(node) = &change.new else {
            let name = change
                .old
                .as_ref()
                .and_then(|old| old.metadata.name.as_deref());
            self.cache.remove_node(name.unwrap_or_default());
            return self.queue.wake(Event::NodeRemoved);
        };
        match self.cache.set_node(node.clone()) {
            None => self.queue.wake(Event::NodeAdded),
            Some(change) if change != NodeChange::default() => {
                self.queue.wake(Event::NodeChanged(change));
            }
            Some(_) => {}
        }
    }

    fn pod(&mut self, change: &Change<Pod>) {
        let Some(pod) = &change.new else {
            let uid = change.old.as_deref().map(uid).unwrap_or_default();
            self.queue.remove(uid);
            let change = self.cache.remove_pod(uid);
            return self.wake(change);
        };
        let uid = uid(pod);
        if waits_for_us(pod) {
            let info = match self.queue.get(uid) {
                Some(before) => before.renewed(pod.clone()),
                None => PodInfo::new(pod.clone()),
            };
            self.wait(Arc::new(info), change.old.as_deref());
        } else {
            self.queue.remove(uid);
            let change = self.cache.set_pod(pod);
            self.wake(change);
        }
    }

    fn wait(&mut self, pod: Arc<PodInfo>, old: Option<&Pod>) {
        // A nomination of before a restart. One that is being written is not shown yet.
        let was_nominated = old
            .and_then(|old| old.status.as_ref()?.nominated_node_name.as_deref())
            .is_some_and(|name| !name.is_empty());
        match pod.nominated_node() {
            Some(node) if !self.cache.nominated.contains_key(pod.uid()) && !was_nominated => {
                self.cache.nominate(pod.clone(), node);
            }
            None if was_nominated => {
                self.cache.nominated.remove(pod.uid());
            }
            _ => {}
        }
        self.queue.put(pod);
    }

    fn namespace(&mut self, change: &Change<Namespace>) {
        let labels = |object: &Option<Arc<Namespace>>| object.as_ref()?.metadata.labels.clone();
        let latest = change.new.as_ref().or(change.old.as_ref());
        let name = latest.and_then(|object| object.metadata.name.as_deref());
        self.cache
            .set_labels(name.unwrap_or_default(), labels(&change.new));
        if labels(&change.old) != labels(&change.new) {
            self.queue.wake(Event::NamespaceRelabelled);
        }
    }

    fn service(&mut self, change: &Change<Service>) {
        let Some(latest) = change.new.as_ref().or(change.old.as_ref()) else {
            return;
        };
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let spec = change
            .new
            .as_ref()
            .and_then(|service| service.spec.as_ref());
        self.cache.set_service(
            &name(&latest.metadata.namespace),
            &name(&latest.metadata.name),
            spec.and_then(|spec| spec.selector.clone()),
        );
    }

    fn wake(&mut self, change: PodChange) {
        match change {
            PodChange::Nothing => {}
            PodChange::Added => self.queue.wake(Event::PodAdded),
            PodChange::Relabelled => self.queue.wake(Event::PodRelabelled),
            PodChange::Shrunk => self.queue.wake(Event::PodShrunk),
            PodChange::Removed => self.queue.wake(Event::PodRemoved),
        }
    }
}

/// What the pod's claims need on the node that was chosen.
fn plan(pod: &PodInfo, node: &str, view: &View<'_>) -> Plan {
    let node = view.nodes.iter().find(|own| own.name() == node);
    let claims = PodClaims::of(pod, view.volumes);
    let planned = node
        .zip(claims.ok())
        .and_then(|(node, claims)| claims.plan(node).ok());
    planned.unwrap_or_default()
}

fn named<K: kube::Resource>(change: &Change<K>) -> (String, String) {
    let latest = change.new.as_ref().or(change.old.as_ref());
    let text = |field: Option<&String>| field.cloned().unwrap_or_default();
    let metadata = latest.map(|object| object.meta());
    (
        text(metadata.and_then(|own| own.namespace.as_ref())),
        text(metadata.and_then(|own| own.name.as_ref())),
    )
}

fn waits_for_us(pod: &Pod) -> bool {
    let name = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref());
    name == Some(NAME)
        && node_of(pod).is_none()
        && !is_terminal(pod)
        && pod.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests;

//! EndpointSlices of services with a selector: which pods answer for a service, on which ports.

pub mod desired;
pub mod plan;
#[cfg(test)]
mod testing;
mod topology;
pub mod write;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};

use self::desired::{Group, Place, PortSet, annotated, desired};
use self::plan::plan;
use self::topology::Outcome;
use crate::error::Result;
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, namespace_of, revision_of, uid_of};
use crate::pending::Pending;
use crate::pod;
use crate::queue::Queue;
use crate::service::trigger::Triggers;
use crate::service::{self, Family, families, selects, touched};
use crate::worker::{Next, Reconcile};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

pub struct EndpointSliceController {
    client: Client,
    events: Recorder,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    slices: Arc<Informer<EndpointSlice>>,
    pending: Arc<Pending>,
    triggers: Triggers,
    /// Services whose endpoints have hints by the share of their zone.
    hinted: Mutex<HashSet<ObjectKey>>,
}

impl EndpointSliceController {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> EndpointSliceController {
        let pending = Arc::new(Pending::default());
        let keys = queue.clone();
        informers.services.listen(move |change: &Change<Service>| {
            if let Some(service) = change.latest() {
                keys.add(ObjectKey::of(service.as_ref()));
            }
        });
        let (keys, services) = (queue.clone(), informers.services.clone());
        informers.pods.listen(move |change: &Change<Pod>| {
            touched(change, &services)
                .into_iter()
                .for_each(|key| keys.add(key));
        });
        let (keys, seen) = (queue.clone(), pending.clone());
        informers
            .endpoint_slices
            .listen(move |change: &Change<EndpointSlice>| {
                slice_changed(change, MANAGER, &seen, &keys);
            });
        let (keys, pods, services) = (
            queue.clone(),
            informers.pods.clone(),
            informers.services.clone(),
        );
        informers.nodes.listen(move |change: &Change<Node>| {
            for key in moved(change, &pods, &services) {
                keys.add(key);
            }
            for key in weighed(change, &services) {
                keys.add(key);
            }
        });
        EndpointSliceController {
            client,
            events: events.of("endpoint-slice-controller"),
            services: informers.services.clone(),
            pods: informers.pods.clone(),
            nodes: informers.nodes.clone(),
            slices: informers.endpoint_slices.clone(),
            pending,
            triggers: Triggers::default(),
            hinted: Mutex::default(),
        }
    }

    /// Adds the hints that follow from all endpoints of a family, and tells people where these begin and end.
    fn hint(
        &self,
        key: &ObjectKey,
        service: &Service,
        existing: &[Arc<EndpointSlice>],
        wanted: &mut BTreeMap<Family, BTreeMap<PortSet, Group>>,
    ) {
        let is_auto = topology::is_auto(service);
        let shares = is_auto
            .then(|| topology::shares(&self.nodes.all()))
            .flatten();
        let mut outcomes = Vec::new();
        for (family, groups) in wanted {
            let outcome = match is_auto {
                false => Outcome::Unasked,
                true => match topology::hint(groups, existing, shares.as_ref()) {
                    Ok(()) => Outcome::Given,
                    Err(why) => Outcome::Refused(why),
                },
            };
            outcomes.push((*family, outcome));
        }
        let mut hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        let (has, notes) = topology::told(hinted.contains(key), &outcomes);
        match has {
            true => hinted.insert(key.clone()),
            false => hinted.remove(key),
        };
        for note in notes {
            self.events.record(service, note);
        }
    }

    fn forget(&self, key: &ObjectKey) {
        self.pending.forget(key);
        self.triggers.forget(key);
        let mut hinted = self.hinted.lock().unwrap_or_else(PoisonError::into_inner);
        hinted.remove(key);
    }
}

/// The service a slice belongs to, whoever manages it.
pub fn of_service(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(namespace_of(slice), name))
}

fn is_kept_by(slice: &EndpointSlice, manager: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    let own = labels.and_then(|labels| labels.get(MANAGED_BY));
    own.is_some_and(|own| own == manager)
}

/// Wakes the service whose slice was changed by somebody else, or has been waited for.
pub fn slice_changed(
    change: &Change<EndpointSlice>,
    manager: &str,
    pending: &Pending,
    queue: &Queue<ObjectKey>,
) {
    for slice in change.each() {
        let Some(key) = of_service(slice).filter(|_| is_kept_by(slice, manager)) else {
            continue;
        };
        match &change.new {
            None => pending.saw_deletion(&key, uid_of(slice.as_ref())),
            Some(new) if !pending.is_news(&key, revision_of(new.as_ref())) => continue,
            Some(_) => {}
        }
        queue.add(key);
    }
}

/// The slices of a service that this manager keeps, without those it has just deleted.
pub fn slices_of(
    slices: &Informer<EndpointSlice>,
    key: &ObjectKey,
    manager: &str,
    pending: &Pending,
) -> Vec<Arc<EndpointSlice>> {
    let mut own = slices.of(key);
    own.retain(|slice| {
        is_kept_by(slice, manager)
            && !is_deleted(slice.as_ref())
            && !pending.is_deleted(key, uid_of(slice.as_ref()))
    });
    own
}

fn place(node: &Node) -> Place {
    let labels = node.metadata.labels.as_ref();
    Place {
        zone: labels.and_then(|labels| labels.get(ZONE)).cloned(),
    }
}

/// Services with pods on a node that came, went or changed its zone.
fn moved(
    change: &Change<Node>,
    pods: &Informer<Pod>,
    services: &Informer<Service>,
) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && place(old) == place(new)
    {
        return Vec::new();
    }
    let Some(node) = change.latest() else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    for pod in pods.all() {
        if pod::node_name(&pod) == node.metadata.name.as_deref() {
            let labels = pod.metadata.labels.as_ref();
            let own = services.select(namespace_of(pod.as_ref()), |service| {
                selects(service, labels)
            });
            keys.extend(own.iter().map(|service| ObjectKey::of(service.as_ref())));
        }
    }
    keys
}

/// Services whose hints follow from the nodes' capacity, where that has changed.
fn weighed(change: &Change<Node>, services: &Informer<Service>) -> Vec<ObjectKey> {
    let capacity = |node: &Option<Arc<Node>>| {
        let (zone, cpu) = topology::capacity(node.as_deref()?)?;
        Some((zone.to_owned(), cpu))
    };
    if capacity(&change.old) == capacity(&change.new) {
        return Vec::new();
    }
    let services = services.all();
    let auto = services.iter().filter(|service| topology::is_auto(service));
    auto.map(|service| ObjectKey::of(service.as_ref()))
        .collect()
}

impl Reconcile for EndpointSliceController {
    type Key = ObjectKey;

    const NAME: &'static str = "endpointslice";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(service) = self.services.get(key) else {
            // Its slices have it as their owner and are collected.
            self.forget(key);
            return Ok(Next::OnChange);
        };
        if service::selector(&service).is_none() {
            return Ok(Next::OnChange);
        }
        if !self
            .pending
            .is_visible(key, |mark| self.slices.has_passed(mark))
        {
            return Ok(Next::After(Duration::from_secs(1)));
        }
        let existing = slices_of(&self.slices, key, MANAGER, &self.pending);
        let pods = self.pods.select(&key.namespace, |pod| {
            selects(&service, pod.metadata.labels.as_ref())
        });
        // Even if nothing is written: the next pass must know what this one has seen.
        let since = self.triggers.since(&service, &pods);
        let node = |name: &str| {
            let node = self.nodes.get(&ObjectKey::new("", name))?;
            Some(place(&node))
        };
        let mut wanted: BTreeMap<_, _> = families(&service)
            .into_iter()
            .map(|family| (family, desired(&service, &pods, family, node)))
            .collect();
        self.hint(key, &service, &existing, &mut wanted);
        let mut changes = plan(&service, &existing, wanted);
        for slice in changes.create.iter_mut().chain(&mut changes.update) {
            slice.metadata.annotations = annotated(slice.metadata.annotations.take(), since);
        }
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        let written = write::write(&api, &self.slices, &self.pending, key, changes).await;
        if let Err(error) = &written
            && !error.is_conflict()
            && !error.is_not_found()
        {
            let message = format!(
                "Error updating Endpoint Slices for Service {key}: {}",
                error.words()
            );
            let note = Note::warning("FailedToUpdateEndpointSlices", message);
            self.events.record(service.as_ref(), note);
        }
        written.map(|()| Next::OnChange)
    }
}

//! What the API server said, by service, which ports of the node lead to pods, and what of it changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use k8s_openapi::api::{core, discovery};
use kube::{ResourceExt, runtime::watcher::Event};

use crate::{
    announce::announced,
    model::ServicePort,
    peers::Peer,
    wanted::{OwnService, Problem, Service, Slice, Wanted, local_ready, wanted},
};

mod host_ports;
mod mirror;
mod name;
#[cfg(test)]
mod tests;

pub use name::ObjectName;

use host_ports::HostPorts;
pub use mirror::{Change, Mirror};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A slice and the service it is for.
#[derive(Debug, PartialEq, Eq)]
struct OwnedSlice {
    service: Option<ObjectName>,
    slice: Slice,
}

/// What load balancers hear at a service's health check port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: u16,
    /// Ready endpoints on this node.
    pub endpoints: usize,
}

/// Something for an Event at a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub service: ObjectName,
    pub uid: Option<String>,
    pub problem: Problem,
}

#[derive(Debug, Default)]
pub struct Index {
    node_name: String,
    zone: Option<String>,
    /// Which Services are ours: [`Service::read`].
    proxy_name: Option<String>,
    /// What this node answers itself.
    own_service: Option<OwnService>,
    services: Mirror<Service>,
    slices: Mirror<OwnedSlice>,
    /// This one is among them.
    nodes: Mirror<Peer>,
    peers: Peer,
    /// With this node.
    cluster: Peer,
    peers_changed: bool,
    host_ports: HostPorts,
    /// Services with their slices. Flat, since most have one only.
    by_service: BTreeSet<(ObjectName, ObjectName)>,
    /// Services, and pods with host ports, whose wanted state may differ from what
    /// was taken last.
    changed: BTreeSet<ObjectName>,
    /// Of the services as they were taken last; those without any are absent.
    problems: BTreeMap<ObjectName, BTreeSet<Problem>>,
    unreported: BTreeSet<(ObjectName, Problem)>,
    health: BTreeMap<ObjectName, HealthCheck>,
    announced: BTreeMap<ObjectName, BTreeSet<IpAddr>>,
}

impl Index {
    pub fn new(node_name: String, proxy_name: Option<String>) -> Self {
        Self {
            node_name,
            proxy_name,
            ..Self::default()
        }
    }

    /// Makes the Service lead to this node, where nobody else is behind it.
    pub fn answer_here(&mut self, own: Option<OwnService>) {
        self.changed.extend(own.iter().map(|own| own.name.clone()));
        self.own_service = own;
    }

    pub fn service(&mut self, event: Event<core::v1::Service>) {
        let proxy_name = self.proxy_name.as_deref();
        let node_name = self.node_name.as_str();
        let read = |object: &core::v1::Service| {
            let mut service = Service::read(object, proxy_name);
            service.announced = announced(object, node_name);
            service
        };
        for change in self.services.apply(event, read) {
            // Status and metadata change far more often than what matters here.
            if self.services.get(&change.name) != change.before.as_deref() {
                self.changed.insert(change.name);
            }
        }
    }

    pub fn slice(&mut self, event: Event<discovery::v1::EndpointSlice>) {
        let node_name = self.node_name.as_str();
        let read = |slice: &discovery::v1::EndpointSlice| OwnedSlice::read(slice, node_name);
        for Change { name, before } in self.slices.apply(event, read) {
            let after = self.slices.get(&name);
            if after == before.as_deref() {
                continue;
            }
            let owner = |slice: Option<&OwnedSlice>| slice.and_then(|slice| slice.service.clone());
            let (old, new) = (owner(before.as_deref()), owner(after));
            if old != new {
                if let Some(old) = &old {
                    self.by_service.remove(&(old.clone(), name.clone()));
                }
                if let Some(new) = &new {
                    self.by_service.insert((new.clone(), name));
                }
            }
            self.changed.extend(old.into_iter().chain(new));
        }
    }

    pub fn node(&mut self, event: Event<core::v1::Node>) {
        let own = match &event {
            Event::Apply(node) | Event::InitApply(node) => {
                (node.name_any() == self.node_name).then(|| node.labels().get(ZONE_LABEL).cloned())
            }
            _ => None,
        };
        if let Some(zone) = own {
            self.set_zone(zone);
        }
        let first = !self.nodes.listed;
        let changes = self.nodes.apply(event, Peer::read);
        // Their statuses change far more often than what matters here.
        let mut changes = changes.iter();
        let differ = changes.any(|change| self.nodes.get(&change.name) != change.before.as_deref());
        if !self.nodes.listed || !first && !differ {
            return;
        }
        let cluster = Peer::all(self.nodes.items.values().map(AsRef::as_ref));
        if cluster != self.cluster {
            self.cluster = cluster;
            self.peers_changed = true;
        }
        let others = self.nodes.items.iter();
        let others = others.filter(|(name, _)| name.name() != self.node_name);
        let peers = Peer::all(others.map(|(_, peer)| peer.as_ref()));
        if peers != self.peers {
            self.peers = peers;
            self.peers_changed = true;
        }
    }

    /// Those of all attached pods.
    pub fn host_ports(&mut self, pods: Arc<vetch_network::HostPorts>) {
        self.changed.extend(self.host_ports.set_pods(pods));
    }

    /// This node's own.
    pub fn node_addresses(&mut self, node: &BTreeSet<IpAddr>) {
        self.changed.extend(self.host_ports.set_node(node));
    }

    /// Addresses of the other nodes.
    pub fn peers(&self) -> &BTreeSet<IpAddr> {
        &self.peers.addresses
    }

    /// Where their pods are.
    pub fn peer_pods(&self) -> &BTreeSet<IpNet> {
        &self.peers.pods
    }

    /// Addresses of all nodes, and where their pods are.
    pub fn cluster(&self) -> &Peer {
        &self.cluster
    }

    /// The label `topology.kubernetes.io/zone` of this node. When it changes, so
    /// do the services with hints for zones.
    fn set_zone(&mut self, zone: Option<String>) {
        if self.zone == zone {
            return;
        }
        self.zone = zone;
        let slices = self.slices.items.values();
        let hinted = slices.filter(|owned| owned.slice.has_zone_hints());
        self.changed
            .extend(hinted.filter_map(|owned| owned.service.clone()));
    }

    /// Whether every kind was listed completely once: before that, nothing may
    /// be concluded from what is absent.
    pub fn complete(&self) -> bool {
        self.services.listed
            && self.slices.listed
            && self.nodes.listed
            && self.host_ports.is_known()
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty() || self.peers_changed
    }

    /// Looks at these again.
    pub fn touch(&mut self, names: impl IntoIterator<Item = ObjectName>) {
        self.changed.extend(names);
    }

    /// The changed services, and the changed pods with host ports, with all they
    /// want; those that are gone want nothing.
    pub fn take_changes(&mut self) -> BTreeMap<ObjectName, Vec<ServicePort>> {
        self.peers_changed = false;
        let mut taken = BTreeMap::new();
        let changed = std::mem::take(&mut self.changed);
        let (mut pods, services): (BTreeSet<_>, BTreeSet<_>) =
            changed.into_iter().partition(HostPorts::has);
        for name in services {
            let ports = self.look(&name);
            pods.extend(self.host_ports.set_service(&name, &ports));
            taken.insert(name, ports);
        }
        // Behind the services, whose ports come first.
        for name in pods {
            let ports = self.host_ports.look(&name);
            taken.insert(name, ports);
        }
        taken
    }

    /// Every service and pod, as if all had changed.
    pub fn take_all(&mut self) -> BTreeMap<ObjectName, Vec<ServicePort>> {
        self.changed.extend(self.services.items.keys().cloned());
        self.changed.extend(self.host_ports.names());
        self.take_changes()
    }

    /// What the service asked for and did not get when it was taken last.
    #[cfg(test)]
    pub fn problems(&self, name: &ObjectName) -> impl Iterator<Item = &Problem> {
        self.problems.get(name).into_iter().flatten()
    }

    /// The problems that came up since the last call and are still there.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.unreported)
            .into_iter()
            .map(|(service, problem)| Report {
                uid: self.uid(&service),
                service,
                problem,
            })
            .collect()
    }

    /// The services with a health check port, as they were taken last: a load
    /// balancer hears of an endpoint when the maps lead to it.
    pub fn health(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        &self.health
    }

    /// The load balancers' addresses that this node answers for, of the
    /// services as they were taken last.
    pub fn announced(&self) -> BTreeSet<IpAddr> {
        self.announced.values().flatten().copied().collect()
    }

    /// The services that the address is announced for.
    pub fn who_announces(&self, address: IpAddr) -> impl Iterator<Item = ObjectName> + '_ {
        let all = self.announced.iter();
        all.filter(move |(_, announced)| announced.contains(&address))
            .map(|(name, _)| name.clone())
    }

    pub fn uid(&self, name: &ObjectName) -> Option<String> {
        self.services.get(name)?.uid().map(str::to_owned)
    }

    fn look(&mut self, name: &ObjectName) -> Vec<ServicePort> {
        let service = self.services.get(name);
        let from = (name.clone(), ObjectName::default());
        let slices = self.by_service.range(from..);
        let slices = slices
            .take_while(|(service, _)| service == name)
            .filter_map(|(_, slice)| self.slices.get(slice))
            .map(|owned| &owned.slice);
        let check = service
            .and_then(Service::health_check_port)
            .map(|port| HealthCheck {
                port,
                endpoints: local_ready(slices.clone()),
            });
        let zone = self.zone.as_deref();
        let wanted = service.map(|service| wanted(service, slices.clone(), zone));
        let Wanted {
            mut ports,
            problems,
        } = wanted.unwrap_or_default();
        let own = self.own_service.as_ref().filter(|own| own.name == *name);
        if let (Some(own), Some(service)) = (own, service)
            && own.takes(service, slices)
        {
            own.lead_here(&mut ports);
        }
        let announced = service.map(|service| service.announced.clone());
        match announced.filter(|announced| !announced.is_empty()) {
            Some(announced) => self.announced.insert(name.clone(), announced),
            None => self.announced.remove(name),
        };
        match check {
            Some(check) => self.health.insert(name.clone(), check),
            None => self.health.remove(name),
        };
        self.record(name, problems);
        ports
    }

    fn record(&mut self, name: &ObjectName, problems: BTreeSet<Problem>) {
        let before = self.problems.remove(name).unwrap_or_default();
        for gone in before.difference(&problems) {
            self.unreported.remove(&(name.clone(), gone.clone()));
        }
        for new in problems.difference(&before) {
            self.unreported.insert((name.clone(), new.clone()));
        }
        if !problems.is_empty() {
            self.problems.insert(name.clone(), problems);
        }
    }
}

impl OwnedSlice {
    fn read(slice: &discovery::v1::EndpointSlice, node_name: &str) -> Self {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let service = slice.labels().get(SERVICE_NAME_LABEL);
        Self {
            service: service.map(|service| ObjectName::new(namespace, service)),
            slice: Slice::read(slice, node_name),
        }
    }
}

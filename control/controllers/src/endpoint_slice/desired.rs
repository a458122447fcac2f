//! The endpoints a service should have, grouped by the ports they serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};

use super::topology;
use crate::key::{name_of, namespace_of};
use crate::pod;
use crate::service::{self, Family, LAST_CHANGE};

/// What endpoints say of their node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub zone: Option<String>,
}

/// Ports of a slice, comparable: name, number, protocol, application protocol of each, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortSet(Vec<(String, Option<i32>, String, Option<String>)>);

impl PortSet {
    pub fn of(ports: &[EndpointPort]) -> PortSet {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let mut all: Vec<_> = ports
            .iter()
            .map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                (
                    text(&port.name),
                    port.port,
                    protocol,
                    port.app_protocol.clone(),
                )
            })
            .collect();
        all.sort();
        PortSet(all)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

/// Endpoints of one address family. `place` knows the nodes: None is a node that does not exist.
pub fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    family: Family,
    place: impl Fn(&str) -> Option<Place>,
) -> BTreeMap<PortSet, Group> {
    let mut groups: BTreeMap<PortSet, Group> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| service::is_endpoint(pod, true)) {
        let ports = ports(service, pod);
        let group = groups.entry(PortSet::of(&ports)).or_insert_with(|| Group {
            ports,
            endpoints: Vec::new(),
        });
        let place = match pod::node_name(pod).map(&place) {
            Some(Some(place)) => place,
            // The pod is about to be collected with its node, unless people want it shown anyway.
            Some(None) if !service::publishes_not_ready(service) => continue,
            Some(None) | None => Place::default(),
        };
        group
            .endpoints
            .extend(endpoint(service, pod, family, place));
    }
    groups
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let all = service::ports(service).iter().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(service::target_port(pod, port)?),
            protocol: Some(service::protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
    });
    all.collect()
}

fn endpoint(service: &Service, pod: &Pod, family: Family, place: Place) -> Option<Endpoint> {
    let addresses: Vec<String> = service::addresses(pod)
        .into_iter()
        .filter(|address| Family::of(address) == Some(family))
        .map(str::to_owned)
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let serving = pod::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = service::publishes_not_ready(service) || (serving && !terminating);
    let node = pod::node_name(pod).map(str::to_owned);
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(service, ready, node.as_deref(), place.zone.as_deref()),
        hostname: service::hostname(pod, service).map(str::to_owned),
        node_name: node,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(namespace_of(pod).to_owned()),
            name: Some(name_of(pod).to_owned()),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: place.zone,
        ..Endpoint::default()
    })
}

/// spec.trafficDistribution as the proxies read it: an endpoint is meant for its own zone or node. The annotation for
/// hints by the zones' shares goes before it.
fn hints(
    service: &Service,
    ready: bool,
    node: Option<&str>,
    zone: Option<&str>,
) -> Option<EndpointHints> {
    let wanted = service::spec(service)?.traffic_distribution.as_deref()?;
    let same_node = wanted == "PreferSameNode";
    if !ready
        || topology::is_auto(service)
        || !(same_node || ["PreferClose", "PreferSameZone"].contains(&wanted))
    {
        return None;
    }
    let zones = zone.map(|zone| vec![ForZone { name: zone.into() }]);
    let nodes = node
        .filter(|_| same_node)
        .map(|node| vec![ForNode { name: node.into() }]);
    (zones.is_some() || nodes.is_some()).then_some(EndpointHints {
        for_zones: zones,
        for_nodes: nodes,
    })
}

/// The labels of the service's slices: its own, and those that say whose they are.
pub fn labels(service: &Service) -> BTreeMap<String, String> {
    let reserved = [
        super::SERVICE_NAME,
        super::MANAGED_BY,
        service::HEADLESS_LABEL,
    ];
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| !reserved.contains(&key.as_str()));
    if !service::has_cluster_ip(service) {
        labels.insert(service::HEADLESS_LABEL.into(), String::new());
    }
    labels.insert(super::SERVICE_NAME.into(), name_of(service).to_owned());
    labels.insert(super::MANAGED_BY.into(), super::MANAGER.into());
    labels
}

/// Annotations with the trigger time of this write, or without an earlier write's.
pub fn annotated(
    annotations: Option<BTreeMap<String, String>>,
    since: Option<jiff::Timestamp>,
) -> Option<BTreeMap<String, String>> {
    let mut annotations = annotations.unwrap_or_default();
    match since {
        Some(since) => annotations.insert(LAST_CHANGE.into(), since.to_string()),
        None => annotations.remove(LAST_CHANGE),
    };
    (!annotations.is_empty()).then_some(annotations)
}

#[cfg(test)]
mod tests;

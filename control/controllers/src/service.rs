//! Services as the endpoint controllers read them: which pods they select, and what of a pod
//! their endpoints show.

pub mod trigger;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::informer::{Change, Informer};
use crate::key::{ObjectKey, namespace_of};
use crate::pod;

/// On endpoints of services without a ClusterIP.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// When what the endpoints are made of last changed.
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: &str) -> Option<Family> {
        address.parse().ok().map(Family::of_ip)
    }

    pub fn of_ip(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// As EndpointSlices and services write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

pub fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

/// The selector the controllers make endpoints of; None: endpoints are somebody else's work.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = spec(service)?;
    let selector = spec
        .selector
        .as_ref()
        .filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then_some(selector)
}

pub fn selects(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector(service).is_some_and(|selector| pod::has_labels(labels, selector))
}

fn cluster_ip(service: &Service) -> Option<&str> {
    spec(service)?
        .cluster_ip
        .as_deref()
        .filter(|ip| !ip.is_empty())
}

pub fn has_cluster_ip(service: &Service) -> bool {
    cluster_ip(service).is_some_and(|ip| ip != "None")
}

pub fn is_headless(service: &Service) -> bool {
    cluster_ip(service) == Some("None")
}

pub fn publishes_not_ready(service: &Service) -> bool {
    spec(service)
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or(false)
}

pub fn ports(service: &Service) -> &[ServicePort] {
    spec(service)
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default()
}

/// The address families of the service's endpoints, its main one first. Where the API server has
/// not written them they follow from the ClusterIP; headless, they may be both.
pub fn families(service: &Service) -> Vec<Family> {
    let named = spec(service)
        .and_then(|spec| spec.ip_families.as_deref())
        .unwrap_or_default();
    let named: Vec<Family> = named
        .iter()
        .filter_map(|name| {
            [Family::V4, Family::V6]
                .into_iter()
                .find(|own| own.as_str() == name)
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    match cluster_ip(service).and_then(Family::of) {
        Some(family) => vec![family],
        None => vec![Family::V4, Family::V6],
    }
}

/// Whether the pod can be an endpoint at all.
pub fn is_endpoint(pod: &Pod, with_terminating: bool) -> bool {
    !pod::is_terminal(pod)
        && !addresses(pod).is_empty()
        && (with_terminating || pod.metadata.deletion_timestamp.is_none())
}

pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all = status.pod_ips.as_deref().unwrap_or_default();
    match all.is_empty() {
        false => all.iter().map(|own| own.ip.as_str()).collect(),
        true => status
            .pod_ip
            .iter()
            .map(String::as_str)
            .filter(|ip| !ip.is_empty())
            .collect(),
    }
}

pub fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The number the service's port has in this pod; None: the pod has no port of that name.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .find_map(|container| named_port(container, name, protocol(port)))
}

fn named_port(container: &Container, name: &str, protocol: &str) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let found = ports.find(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    })?;
    Some(found.container_port)
}

/// The pod's own name in the service's subdomain.
pub fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_deref().filter(|name| !name.is_empty())?;
    let inside = spec.subdomain.as_deref() == service.metadata.name.as_deref()
        && namespace_of(pod) == namespace_of(service);
    inside.then_some(hostname)
}

/// What of a pod its services' endpoints depend on.
#[derive(PartialEq)]
struct Facets<'a> {
    addresses: Vec<&'a str>,
    node: Option<&'a str>,
    ready: bool,
    terminal: bool,
    deleted: bool,
    labels: Option<&'a BTreeMap<String, String>>,
}

fn facets(pod: &Pod) -> Facets<'_> {
    Facets {
        addresses: addresses(pod),
        node: pod::node_name(pod),
        ready: pod::is_ready(pod),
        terminal: pod::is_terminal(pod),
        deleted: pod.metadata.deletion_timestamp.is_some(),
        labels: pod.metadata.labels.as_ref(),
    }
}

/// The services whose endpoints a change of a pod may touch.
pub fn touched(change: &Change<Pod>, services: &Informer<Service>) -> Vec<ObjectKey> {
    if let (Some(old), Some(new)) = (&change.old, &change.new)
        && facets(old) == facets(new)
    {
        return Vec::new();
    }
    let Some(pod) = change.latest() else {
        return Vec::new();
    };
    let found = services.select(namespace_of(pod.as_ref()), |service| {
        change
            .each()
            .any(|pod| selects(service, pod.metadata.labels.as_ref()))
    });
    found
        .iter()
        .map(|service| ObjectKey::of(service.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests;

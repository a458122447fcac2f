//! What of an EndpointSlice matters here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::discovery::v1;
use vetch_ebpf_common::Protocol;

use super::{
    Family, Problem, address, port_number,
    weight::{NoWeight, Weight},
};

/// 1 to 100; other endpoints of the service weigh 1.
const WEIGHT_ANNOTATION: &str = "vetch.dev/weight";

/// One of FQDNs is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub(super) ports: Box<[Port]>,
    pub(super) endpoints: Box<[Endpoint]>,
    /// Of each of its endpoints.
    pub(super) weight: Weight,
    pub(super) problem: Option<Problem>,
}

/// One that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub addr: IpAddr,
    pub state: State,
    /// On this node.
    pub local: bool,
    pub node_hint: NodeHint,
    /// Zones it is hinted for.
    pub zones: Box<[Box<str>]>,
}

/// What an endpoint may be used for, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Down,
    /// Serves, yet neither is ready nor goes away: for the clients it has.
    Serving,
    /// Serves its last requests: for new clients when nothing is ready.
    Draining,
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeHint {
    None,
    OtherNodes,
    ThisNode,
}

impl Slice {
    /// As `node_name` sees it.
    pub fn read(slice: &v1::EndpointSlice, node_name: &str) -> Self {
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return Self::default(),
        };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(Port {
                name: port.name.as_deref().unwrap_or_default().into(),
                protocol: Protocol::named(port.protocol.as_deref())?,
                number: port_number(port.port?)?,
            })
        });
        let endpoints = slice
            .endpoints
            .iter()
            .flatten()
            .filter_map(|endpoint| Endpoint::read(endpoint, node_name))
            .filter(|endpoint| Family::of(endpoint.addr) == family);
        let (weight, problem) = weight(slice);
        Self {
            ports: ports.collect(),
            endpoints: endpoints.collect(),
            weight,
            problem,
        }
    }

    /// Whether it matters in which zone this node is.
    pub fn has_zone_hints(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| !endpoint.zones.is_empty())
    }
}

fn weight(slice: &v1::EndpointSlice) -> (Weight, Option<Problem>) {
    let annotations = slice.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(WEIGHT_ANNOTATION)) else {
        return (Weight::default(), None);
    };
    match text.parse() {
        Ok(weight) => (weight, None),
        Err(NoWeight) => (Weight::default(), Some(Problem::Weight(text.clone()))),
    }
}

/// How many endpoints on this node are ready: two ports of one are one, and so
/// are the two addresses of a dual-stack pod.
pub fn local_ready<'a>(slices: impl Iterator<Item = &'a Slice>) -> usize {
    let mut ready: BTreeMap<Family, BTreeSet<IpAddr>> = BTreeMap::new();
    for slice in slices.filter(|slice| !slice.ports.is_empty()) {
        for endpoint in &slice.endpoints {
            if endpoint.local && endpoint.state == State::Ready {
                let addresses = ready.entry(Family::of(endpoint.addr)).or_default();
                addresses.insert(endpoint.addr);
            }
        }
    }
    ready.values().map(BTreeSet::len).max().unwrap_or(0)
}

impl Endpoint {
    fn read(endpoint: &v1::Endpoint, node_name: &str) -> Option<Self> {
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|hints| hints.for_zones.as_deref());
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref());
        Some(Self {
            // Further addresses of one endpoint are the same endpoint.
            addr: address(endpoint.addresses.first()?)?,
            state: State::of(endpoint.conditions.as_ref()),
            local: endpoint.node_name.as_deref() == Some(node_name),
            node_hint: match nodes.unwrap_or(&[]) {
                [] => NodeHint::None,
                nodes if nodes.iter().any(|node| node.name == node_name) => NodeHint::ThisNode,
                _ => NodeHint::OtherNodes,
            },
            zones: zones
                .unwrap_or(&[])
                .iter()
                .map(|zone| zone.name.as_str().into())
                .collect(),
        })
    }
}

impl State {
    fn of(conditions: Option<&v1::EndpointConditions>) -> Self {
        let Some(conditions) = conditions else {
            return Self::Ready;
        };
        if conditions.ready.unwrap_or(true) {
            Self::Ready
        } else if !conditions.serving.unwrap_or(true) {
            Self::Down
        } else if conditions.terminating.unwrap_or(false) {
            Self::Draining
        } else {
            Self::Serving
        }
    }
}

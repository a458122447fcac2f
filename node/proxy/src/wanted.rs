//! Services and EndpointSlices → what the maps should hold. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::api::{core, discovery};
use vetch_ebpf_common::Protocol;

use crate::model::{Backend, Exposure, Frontend, ServicePort, Target};

#[cfg(test)]
mod tests;

/// Hands a Service to the proxy of that name; without it the cluster's default proxy serves it.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// What of a Service matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<Port>,
}

/// What of an EndpointSlice matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    ports: Vec<Port>,
    endpoints: Vec<(Ipv4Addr, State)>,
}

/// In a Service the port that is dialled, in a slice the one that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: Protocol,
    number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Serves its last requests: used when nothing is ready.
    Draining,
    NotReady,
}

/// The service-ports of one service. A port whose slices are not there yet has
/// no backends, and calls to it are refused.
pub fn wanted<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
) -> Vec<ServicePort> {
    if service.addresses.is_empty() {
        return Vec::new();
    }
    service
        .ports
        .iter()
        .map(|port| ServicePort {
            frontends: service
                .addresses
                .iter()
                .map(|addr| {
                    let frontend = Frontend {
                        addr: IpAddr::V4(*addr),
                        port: port.number,
                        protocol: port.protocol,
                    };
                    (frontend, Exposure::CLUSTER)
                })
                .collect(),
            target: Target {
                cluster: backends(port, slices.clone()),
                ..Target::default()
            },
        })
        .collect()
}

/// The ready endpoints, or the draining ones if none is ready.
fn backends<'a>(port: &Port, slices: impl Iterator<Item = &'a Slice>) -> Vec<Backend> {
    let mut ready = BTreeSet::new();
    let mut draining = BTreeSet::new();
    for slice in slices {
        for target in slice
            .ports
            .iter()
            .filter(|other| other.name == port.name && other.protocol == port.protocol)
        {
            for (addr, state) in &slice.endpoints {
                let backend = Backend {
                    addr: IpAddr::V4(*addr),
                    port: target.number,
                };
                match state {
                    State::Ready => ready.insert(backend),
                    State::Draining => draining.insert(backend),
                    State::NotReady => false,
                };
            }
        }
    }
    if ready.is_empty() { draining } else { ready }
        .into_iter()
        .collect()
}

impl Service {
    /// A Service that is not ours to serve has no addresses. `proxy_name` is ours; None is the
    /// default proxy's, which serves what carries no name.
    pub fn read(service: &core::v1::Service, proxy_name: Option<&str>) -> Self {
        let labels = service.metadata.labels.as_ref();
        let named = labels.and_then(|labels| labels.get(PROXY_NAME_LABEL));
        let ours = named.map(String::as_str) == proxy_name;
        let Some(spec) = service.spec.as_ref().filter(|_| ours) else {
            return Self::default();
        };
        if spec.type_.as_deref() == Some("ExternalName") {
            return Self::default();
        }
        let cluster_ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        // "None", of a headless service, is no address; nor is one of the other family.
        let addresses: BTreeSet<Ipv4Addr> = cluster_ips.filter_map(|ip| ip.parse().ok()).collect();
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Port::new(port.name.as_deref(), port.protocol.as_deref(), port.port)
        });
        Self {
            addresses: addresses.into_iter().collect(),
            ports: ports.collect(),
        }
    }
}

impl From<&discovery::v1::EndpointSlice> for Slice {
    fn from(slice: &discovery::v1::EndpointSlice) -> Self {
        if slice.address_type != "IPv4" {
            return Self::default();
        }
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Port::new(port.name.as_deref(), port.protocol.as_deref(), port.port?)
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            // Further addresses of one endpoint are the same endpoint.
            let addr = endpoint.addresses.first()?.parse().ok()?;
            Some((addr, State::of(endpoint.conditions.as_ref())))
        });
        Self {
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        }
    }
}

impl State {
    fn of(conditions: Option<&discovery::v1::EndpointConditions>) -> Self {
        let Some(conditions) = conditions else {
            return Self::Ready;
        };
        let ready = conditions.ready.unwrap_or(true);
        let serving = conditions.serving.unwrap_or(ready);
        if ready {
            Self::Ready
        } else if serving && conditions.terminating.unwrap_or(false) {
            Self::Draining
        } else {
            Self::NotReady
        }
    }
}

impl Port {
    fn new(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Self> {
        let protocol = match protocol {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(_) => return None,
        };
        let number = u16::try_from(number).ok().filter(|number| *number != 0)?;
        Some(Self {
            name: name.unwrap_or_default().to_owned(),
            protocol,
            number,
        })
    }
}

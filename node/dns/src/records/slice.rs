//! What of an EndpointSlice its Service's names need.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1;

use super::service::{Port, address};
use crate::key::Key;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub service: Option<Key>,
    pub ports: Box<[Port]>,
    /// Those that are ready, or are to be published though they are not: then
    /// their controller calls them ready.
    pub endpoints: Box<[Endpoint]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    /// In lower case.
    pub hostname: Option<Box<str>>,
}

impl Slice {
    pub fn read(object: &v1::EndpointSlice) -> Self {
        let meta = &object.metadata;
        let labels = meta.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let ports = object.ports.iter().flatten();
        let ports = ports.map(|port| {
            let number = port.port.unwrap_or_default();
            Port::new(port.name.as_deref(), port.protocol.as_deref(), number)
        });
        let endpoints = object.endpoints.iter().flatten();
        let ready = endpoints.filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            // Not said means ready.
            conditions.and_then(|known| known.ready).unwrap_or(true)
        });
        Self {
            service: service.map(|name| Key::new(namespace, name)),
            ports: ports.collect(),
            endpoints: ready.flat_map(Endpoint::read).collect(),
        }
    }
}

impl Endpoint {
    /// One for each address; names are no addresses.
    fn read(endpoint: &v1::Endpoint) -> impl Iterator<Item = Self> {
        let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
        let ips = endpoint.addresses.iter().filter_map(|text| address(text));
        ips.map(move |ip| Self {
            ip,
            hostname: hostname.map(|name| name.to_ascii_lowercase().into()),
        })
    }

    /// Its label below its Service: its hostname, or its address with dashes, as
    /// CoreDNS has it (the specification leaves it open).
    pub fn label(&self) -> String {
        match &self.hostname {
            Some(name) => name.to_string(),
            None => dashed(self.ip),
        }
    }

    pub fn is_called(&self, label: &str) -> bool {
        match &self.hostname {
            Some(name) => **name == *label,
            // Looked at for every endpoint of a Service: without making text of each.
            None => undashed(label).is_some_and(|ip| ip == self.ip && dashed(ip) == label),
        }
    }
}

/// `10-244-1-2`, `fd00--2`.
pub fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// What [`dashed`] made of an address, in other spellings of it too.
pub fn undashed(label: &str) -> Option<IpAddr> {
    let four = label.bytes().filter(|byte| *byte == b'-').count() == 3 && !label.contains("--");
    match four {
        true => label.replace('-', ".").parse().ok().map(IpAddr::V4),
        false => label.replace('-', ":").parse().ok().map(IpAddr::V6),
    }
}

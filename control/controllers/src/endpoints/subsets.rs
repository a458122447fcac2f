//! Subsets of Endpoints: addresses that share their ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, ObjectReference, Pod, Service,
};

use crate::key::{name_of, namespace_of};
use crate::pod;
use crate::service::{self, Family};

/// Addresses in one Endpoints object; more than these are in EndpointSlices only.
pub const MAX_ADDRESSES: usize = 1000;

/// The subsets of a service, packed.
pub fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    // Endpoints know one family: the service's main one.
    let Some(family) = service::families(service).first().copied() else {
        return Vec::new();
    };
    let with_terminating = service::publishes_not_ready(service);
    let mut loose = Vec::new();
    for pod in pods {
        if !service::is_endpoint(pod, with_terminating) {
            continue;
        }
        let Some(address) = address(service, pod, family) else {
            continue;
        };
        let ready = with_terminating || pod::is_ready(pod);
        let ports: Vec<EndpointPort> = service::ports(service)
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    name: port.name.clone(),
                    port: service::target_port(pod, port)?,
                    protocol: Some(service::protocol(port).to_owned()),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        // Only a headless service may do without ports.
        let portless = service::ports(service).is_empty() && service::is_headless(service);
        if portless || !ports.is_empty() {
            loose.push(subset(address, ready, ports));
        }
    }
    repack(&loose)
}

fn subset(address: EndpointAddress, ready: bool, ports: Vec<EndpointPort>) -> EndpointSubset {
    let (addresses, not_ready_addresses) = match ready {
        true => (Some(vec![address]), None),
        false => (None, Some(vec![address])),
    };
    EndpointSubset {
        addresses,
        not_ready_addresses,
        ports: Some(ports),
    }
}

fn address(service: &Service, pod: &Pod, family: Family) -> Option<EndpointAddress> {
    let ip = service::addresses(pod)
        .into_iter()
        .find(|address| Family::of(address) == Some(family))?;
    Some(EndpointAddress {
        ip: ip.to_owned(),
        hostname: service::hostname(pod, service).map(str::to_owned),
        node_name: pod::node_name(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some(namespace_of(pod).to_owned()),
            name: Some(name_of(pod).to_owned()),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

type Port = (String, i32, String, Option<String>);
type Address = (String, Option<String>);

/// Each address in one subset for all its ports, addresses with equal ports together, everything in
/// a fixed order: addresses as text, then by the uid of what they stand for.
///
/// Kubernetes orders ports and subsets by a hash of their Go form; names come first here.
pub fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<(Address, bool), (EndpointAddress, BTreeSet<Port>)> =
        BTreeMap::new();
    for subset in subsets {
        let ports: Vec<Port> = subset.ports.iter().flatten().map(port_key).collect();
        let ready = subset.addresses.iter().flatten().map(|own| (own, true));
        let waiting = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|own| (own, false));
        for (address, ready) in ready.chain(waiting) {
            let uid = address
                .target_ref
                .as_ref()
                .and_then(|reference| reference.uid.clone());
            let entry = addresses
                .entry(((address.ip.clone(), uid), ready))
                .or_insert_with(|| (address.clone(), BTreeSet::new()));
            entry.1.extend(ports.iter().cloned());
        }
    }
    let mut groups: BTreeMap<BTreeSet<Port>, [Vec<EndpointAddress>; 2]> = BTreeMap::new();
    for ((_, ready), (address, ports)) in addresses {
        groups.entry(ports).or_default()[usize::from(!ready)].push(address);
    }
    let some = |list: Vec<EndpointAddress>| (!list.is_empty()).then_some(list);
    let packed = groups
        .into_iter()
        .map(|(ports, [ready, waiting])| EndpointSubset {
            addresses: some(ready),
            not_ready_addresses: some(waiting),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
        });
    packed.collect()
}

fn port_key(port: &EndpointPort) -> Port {
    (
        port.name.clone().unwrap_or_default(),
        port.port,
        port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        port.app_protocol.clone(),
    )
}

fn port((name, port, protocol, app_protocol): Port) -> EndpointPort {
    EndpointPort {
        name: (!name.is_empty()).then_some(name),
        port,
        protocol: Some(protocol),
        app_protocol,
    }
}

/// Cuts the subsets to the limit, ready addresses first and each subset in its proportion. Answers
/// whether something was cut.
pub fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|own| count(&own.addresses)).sum();
    let waiting: usize = subsets
        .iter()
        .map(|own| count(&own.not_ready_addresses))
        .sum();
    if ready + waiting <= MAX_ADDRESSES {
        return false;
    }
    let cut_ready = ready > MAX_ADDRESSES;
    let (room, total) = match cut_ready {
        true => (MAX_ADDRESSES, ready),
        false => (MAX_ADDRESSES - ready, waiting),
    };
    let mut left = room;
    for subset in subsets {
        let list = match cut_ready {
            true => {
                subset.not_ready_addresses = None;
                &mut subset.addresses
            }
            false => &mut subset.not_ready_addresses,
        };
        let share = (count(list) * room).div_ceil(total).min(left);
        if let Some(list) = list {
            list.truncate(share);
        }
        *list = list.take().filter(|list| !list.is_empty());
        left -= share;
    }
    true
}

#[cfg(test)]
mod tests;

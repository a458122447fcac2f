//! Frontends and backends, as the maps have them. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use vetch_ebpf_common::Traffic;

use super::ConnectLatency;
use crate::{
    diff::{Current, Pointer, ServiceId},
    model::{Backend, Frontend, Target, protocol_name},
};

#[cfg(test)]
mod tests;

/// A frontend and the service-port it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// A NodePort's is the unspecified one, for all of the node's.
    pub address: SocketAddr,
    pub protocol: &'static str,
    /// Its number in the maps; frontends of one service-port share it.
    pub service: ServiceId,
    /// The external traffic policy holds for clients from outside.
    pub external: bool,
    /// Only clients in the source ranges are served.
    pub source_ranges: bool,
    pub internal_traffic_policy: &'static str,
    pub external_traffic_policy: &'static str,
    /// Of session affinity by the client's address.
    pub affinity_seconds: Option<u32>,
    pub balance: &'static str,
    /// Different backends for clients that may be sent anywhere.
    pub cluster_backends: usize,
    /// On this node, for policy Local.
    pub local_backends: usize,
    /// Of the service-port, by whichever frontend they came.
    pub connections: u64,
    pub refused: u64,
    /// From clients to backends: payload of TCP connections that have ended,
    /// IP packets of what is balanced by the packet.
    pub bytes_in: u64,
    /// From backends to clients, likewise.
    pub bytes_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDetail {
    #[serde(flatten)]
    pub service: Service,
    /// All that lead to the service-port.
    pub frontends: Vec<String>,
    pub allowed_ranges: Vec<IpNet>,
    /// None before the first connection that was balanced at the socket.
    pub connect_latency: Option<ConnectLatency>,
    pub backends: Vec<ServiceBackend>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackend {
    pub address: SocketAddr,
    /// How many of the cluster's slots are its: its share of new clients.
    pub cluster_slots: usize,
    /// Of the node's own, likewise.
    pub local_slots: usize,
    /// It keeps the clients it has and gets no more.
    pub draining: bool,
    /// With this node; counted where they decide who gets the next one.
    pub live_connections: Option<u64>,
}

pub fn list(current: &Current, traffic: &BTreeMap<ServiceId, Traffic>) -> Vec<Service> {
    let nothing = Target::default();
    // Counted once for each service-port, not for each of its frontends.
    let counts: BTreeMap<ServiceId, [usize; 2]> = current
        .services
        .iter()
        .map(|(service, target)| (*service, [&target.cluster, &target.local].map(different)))
        .collect();
    current
        .frontends
        .iter()
        .map(|(frontend, to)| {
            let target = current.services.get(&to.service).unwrap_or(&nothing);
            let count = counts.get(&to.service).copied().unwrap_or_default();
            service(*frontend, *to, target, count, traffic.get(&to.service))
        })
        .collect()
}

pub fn show(
    current: &Current,
    traffic: &BTreeMap<ServiceId, Traffic>,
    frontend: Frontend,
) -> Option<ServiceDetail> {
    let to = *current.frontends.get(&frontend)?;
    let target = current.services.get(&to.service)?;
    let count = [&target.cluster, &target.local].map(different);
    let others = current.frontends.iter();
    Some(ServiceDetail {
        service: service(frontend, to, target, count, traffic.get(&to.service)),
        frontends: others
            .filter(|(_, other)| other.service == to.service)
            .map(|(frontend, _)| frontend.to_string())
            .collect(),
        allowed_ranges: target.source_ranges.clone(),
        connect_latency: None,
        backends: backends(target),
    })
}

fn service(
    frontend: Frontend,
    to: Pointer,
    target: &Target,
    [cluster_backends, local_backends]: [usize; 2],
    traffic: Option<&Traffic>,
) -> Service {
    let policy = |local| if local { "Local" } else { "Cluster" };
    let traffic = traffic.copied().unwrap_or_default();
    Service {
        address: SocketAddr::new(frontend.addr, frontend.port),
        protocol: protocol_name(frontend.protocol),
        service: to.service,
        external: to.exposure.external,
        source_ranges: to.exposure.source_ranges,
        internal_traffic_policy: policy(target.internal_local),
        external_traffic_policy: policy(target.external_local),
        affinity_seconds: target.affinity,
        balance: target.balance.as_str(),
        cluster_backends,
        local_backends,
        connections: traffic.connections,
        refused: traffic.refused,
        bytes_in: traffic.bytes_in,
        bytes_out: traffic.bytes_out,
    }
}

fn different(list: &Vec<Backend>) -> usize {
    list.iter().collect::<BTreeSet<_>>().len()
}

fn backends(target: &Target) -> Vec<ServiceBackend> {
    let mut slots: BTreeMap<Backend, [usize; 2]> = BTreeMap::new();
    for (which, list) in [&target.cluster, &target.local].into_iter().enumerate() {
        for backend in list {
            slots.entry(*backend).or_default()[which] += 1;
        }
    }
    for backend in &target.serving {
        slots.entry(*backend).or_default();
    }
    slots
        .into_iter()
        .map(|(backend, [cluster_slots, local_slots])| ServiceBackend {
            address: SocketAddr::new(backend.addr, backend.port),
            cluster_slots,
            local_slots,
            draining: cluster_slots + local_slots == 0,
            live_connections: None,
        })
        .collect()
}

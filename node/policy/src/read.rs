//! From API objects. What cannot be read lets nothing pass.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::{
    api::{
        core::v1::{self as core, Container, ContainerPort},
        networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use vetch_ebpf_common::Protocol;

use crate::{Namespaces, PeerSpec, Pod, PodPort, Policy, Port, PortSpec, RuleSpec, Selector};

impl Policy {
    pub fn read(policy: &NetworkPolicy) -> Self {
        let own = policy.metadata.namespace.clone().unwrap_or_default();
        let Some(spec) = &policy.spec else {
            return Self::default();
        };
        // As the API server defaults it.
        let types = spec.policy_types.as_deref().unwrap_or_default();
        let has = |wanted: &str| types.iter().any(|one| one == wanted);
        let egress = spec.egress.as_deref().unwrap_or_default();
        let (isolates_in, isolates_out) = if types.is_empty() {
            (true, !egress.is_empty())
        } else {
            (has("Ingress"), has("Egress"))
        };
        let ingress = spec.ingress.as_deref().unwrap_or_default();
        let rule = |peers: &Option<Vec<NetworkPolicyPeer>>,
                    ports: &Option<Vec<NetworkPolicyPort>>| {
            RuleSpec {
                peers: peers.iter().flatten().map(|one| peer(one, &own)).collect(),
                ports: ports.iter().flatten().map(port).collect(),
            }
        };
        Self {
            selector: spec
                .pod_selector
                .as_ref()
                .map(Selector::read)
                .unwrap_or_default(),
            ingress: isolates_in.then(|| {
                ingress
                    .iter()
                    .map(|one| rule(&one.from, &one.ports))
                    .collect()
            }),
            egress: isolates_out
                .then(|| egress.iter().map(|one| rule(&one.to, &one.ports)).collect()),
        }
    }
}

fn peer(peer: &NetworkPolicyPeer, own: &str) -> PeerSpec {
    if let Some(block) = &peer.ip_block {
        return self::block(block);
    }
    let namespaces = match &peer.namespace_selector {
        Some(selector) => Namespaces::Matching(Selector::read(selector)),
        None if peer.pod_selector.is_some() => Namespaces::One(own.to_owned()),
        None => return PeerSpec::Nobody,
    };
    PeerSpec::Pods {
        namespaces,
        selector: peer
            .pod_selector
            .as_ref()
            .map(Selector::read)
            .unwrap_or_default(),
    }
}

fn block(block: &IPBlock) -> PeerSpec {
    let Some(cidr) = net(&block.cidr) else {
        return PeerSpec::Nobody;
    };
    let except = block.except.iter().flatten();
    let except: Option<BTreeSet<IpNet>> = except.map(|text| net(text)).collect();
    match except {
        Some(except) => PeerSpec::Block { cidr, except },
        // Rather nobody than somebody who was to be left out.
        None => PeerSpec::Nobody,
    }
}

/// Also with bits of a host, as objects from before 1.36 may have.
pub fn net(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok()?;
    match net {
        // An IPv4 address in IPv6's clothes is no packet's.
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => None,
        net => Some(net.trunc()),
    }
}

fn port(port: &NetworkPolicyPort) -> PortSpec {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
    let range = |first: i32| {
        let last = port.end_port.unwrap_or(first);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Port::Range(first, last),
            _ => Port::None,
        }
    };
    let protocol = Protocol::named(port.protocol.as_deref());
    let port = match &port.port {
        _ if protocol.is_none() => Port::None,
        None => Port::All,
        Some(IntOrString::Int(first)) => range(*first),
        Some(IntOrString::String(name)) => Port::Named(name.clone()),
    };
    PortSpec {
        protocol: protocol.unwrap_or(Protocol::Tcp),
        port,
    }
}

/// On a mirror: the uid that its static pod has on its node, where the mirror's own means nothing.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Pod {
    pub fn read(pod: &core::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let many = status.and_then(|status| status.pod_ips.as_ref());
        let many = many.into_iter().flatten().map(|ip| ip.ip.as_str());
        let one = status.and_then(|status| status.pod_ip.as_deref());
        let ips: BTreeSet<IpAddr> = many
            .chain(one)
            .filter_map(|ip| ip.parse().ok())
            .map(|ip: IpAddr| ip.to_canonical())
            .collect();
        let metadata = &pod.metadata;
        let annotations = metadata.annotations.as_ref();
        let mirrored = annotations.and_then(|annotations| annotations.get(MIRROR));
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid: mirrored
                .or(metadata.uid.as_ref())
                .cloned()
                .unwrap_or_default(),
            labels: Arc::new(metadata.labels.clone().unwrap_or_default()),
            ips: ips.into_iter().collect(),
            node: spec
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            ports: spec.map(ports).unwrap_or_default().into(),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            over: matches!(phase, Some("Succeeded" | "Failed")),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0.to_string())
                .unwrap_or_default(),
        }
    }
}

/// Of containers, and of init containers that stay (sidecars, KEP-753): those by whose names ports are
/// asked for.
pub fn container_ports(spec: &core::PodSpec) -> impl Iterator<Item = &ContainerPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(stays);
    let containers = spec.containers.iter().chain(sidecars);
    containers.flat_map(|container| container.ports.iter().flatten())
}

fn ports(spec: &core::PodSpec) -> Vec<PodPort> {
    let mut ports: Vec<PodPort> = container_ports(spec)
        .filter_map(|port| {
            let protocol = Protocol::named(port.protocol.as_deref())?;
            Some(PodPort {
                name: port.name.clone()?,
                protocol: protocol as u8,
                number: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect();
    ports.sort();
    ports.dedup();
    ports
}

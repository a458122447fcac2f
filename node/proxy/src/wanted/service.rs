//! What of a Service matters here.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::{
    api::core::v1::{self, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use vetch_ebpf_common::Protocol;

use super::{Family, Problem, address, port_number};
use crate::model::{Balance, Exposure, Frontend};

#[cfg(test)]
mod tests;

/// Hands a Service to the proxy of that name; without it the cluster's default proxy serves it.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// `random`, `maglev` or `least`.
const BALANCE_ANNOTATION: &str = "vetch.dev/balance";
/// Before there was `loadBalancerSourceRanges`: holds where that is empty.
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Kubernetes' default, which its API server writes into the object.
const AFFINITY_SECONDS: u32 = 10_800;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub(super) uid: Option<Box<str>>,
    /// Somebody is chosen to be behind it, whether there is anyone or not.
    pub(super) has_selector: bool,
    /// All of families that have a cluster IP, sorted.
    addresses: Box<[(IpAddr, Exposure)]>,
    pub(super) ports: Box<[Port]>,
    pub(super) internal_local: bool,
    pub(super) external_local: bool,
    pub(super) affinity: Option<u32>,
    pub(super) balance: Balance,
    /// Who may use the load balancer's addresses, where not everybody may.
    pub(super) source_ranges: BTreeMap<Family, Vec<IpNet>>,
    health_check_port: Option<u16>,
    /// What this node announces of its addresses; whoever knows the node fills it.
    pub announced: BTreeSet<IpAddr>,
    pub(super) problems: BTreeSet<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub name: Box<str>,
    pub protocol: Protocol,
    pub number: u16,
    node_port: Option<u16>,
    /// Where the service says it as a number; the slices have the truth.
    pub target: Option<u16>,
}

impl Service {
    /// A Service that is not ours to serve has no addresses and no ports.
    /// `proxy_name` is ours; None is the default proxy's, which serves what
    /// carries no name.
    pub fn read(service: &v1::Service, proxy_name: Option<&str>) -> Self {
        let labels = service.metadata.labels.as_ref();
        let named = labels.and_then(|labels| labels.get(PROXY_NAME_LABEL));
        let ours = named.map(String::as_str) == proxy_name;
        let Some(spec) = service.spec.as_ref().filter(|_| ours) else {
            return Self::default();
        };
        let type_ = Type::of(spec);
        // "None", of a headless service, is no address.
        let cluster_ips: BTreeSet<IpAddr> = spec
            .cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .filter_map(|ip| address(ip))
            .collect();
        if type_ == Type::ExternalName || cluster_ips.is_empty() {
            return Self::default();
        }
        let mut problems = BTreeSet::new();
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let external_local = local(&spec.external_traffic_policy);
        let source_ranges = source_ranges(service, spec, &mut problems);
        Self {
            uid: service.metadata.uid.as_deref().map(Into::into),
            has_selector: spec
                .selector
                .as_ref()
                .is_some_and(|wanted| !wanted.is_empty()),
            addresses: addresses(service, type_, &cluster_ips, &source_ranges, &mut problems)
                .into_iter()
                .collect(),
            ports: spec
                .ports
                .iter()
                .flatten()
                .filter_map(|port| Port::read(port, type_))
                .collect(),
            internal_local: local(&spec.internal_traffic_policy),
            external_local,
            affinity: affinity(spec),
            balance: balance(service, &mut problems),
            source_ranges,
            health_check_port: spec
                .health_check_node_port
                .filter(|_| type_ == Type::LoadBalancer && external_local)
                .and_then(port_number),
            announced: BTreeSet::new(),
            problems,
        }
    }

    /// Of this incarnation of the Service, for what is said about it.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Where load balancers ask whether this node has endpoints of its own.
    pub fn health_check_port(&self) -> Option<u16> {
        self.health_check_port
    }

    pub(super) fn families(&self) -> BTreeSet<Family> {
        self.addresses
            .iter()
            .map(|(addr, _)| Family::of(*addr))
            .collect()
    }

    /// What is dialled for one port in one family.
    pub(super) fn frontends(&self, port: &Port, family: Family) -> BTreeMap<Frontend, Exposure> {
        let frontend = |addr, port_number| Frontend {
            addr,
            port: port_number,
            protocol: port.protocol,
        };
        let addresses = self
            .addresses
            .iter()
            .filter(|(addr, _)| Family::of(*addr) == family)
            .map(|(addr, exposure)| (frontend(*addr, port.number), *exposure));
        let node_port = port
            .node_port
            .map(|number| (frontend(family.unspecified(), number), Exposure::EXTERNAL));
        addresses.chain(node_port).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl Type {
    fn of(spec: &ServiceSpec) -> Self {
        match spec.type_.as_deref() {
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            _ => Self::ClusterIp,
        }
    }
}

impl Port {
    fn read(port: &v1::ServicePort, type_: Type) -> Option<Self> {
        let number = port_number(port.port)?;
        let has_node_port = matches!(type_, Type::NodePort | Type::LoadBalancer);
        Some(Self {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: Protocol::named(port.protocol.as_deref())?,
            number,
            node_port: port
                .node_port
                .filter(|_| has_node_port)
                .and_then(port_number),
            target: match &port.target_port {
                None => Some(number),
                Some(IntOrString::Int(0)) => Some(number),
                Some(IntOrString::Int(target)) => port_number(*target),
                Some(IntOrString::String(_)) => None,
            },
        })
    }
}

fn addresses(
    service: &v1::Service,
    type_: Type,
    cluster_ips: &BTreeSet<IpAddr>,
    source_ranges: &BTreeMap<Family, Vec<IpNet>>,
    problems: &mut BTreeSet<Problem>,
) -> BTreeMap<IpAddr, Exposure> {
    let mut addresses: BTreeMap<IpAddr, Exposure> = cluster_ips
        .iter()
        .map(|addr| (*addr, Exposure::CLUSTER))
        .collect();
    let families: BTreeSet<Family> = cluster_ips.iter().copied().map(Family::of).collect();
    let external_ips = service
        .spec
        .iter()
        .flat_map(|spec| spec.external_ips.iter().flatten())
        .map(|ip| (ip, false));
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let vips = balancer
        .iter()
        .filter(|_| type_ == Type::LoadBalancer)
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        // A balancer that proxies sends to the NodePort: its own address is
        // left to it.
        .filter(|ingress| ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| Some((ingress.ip.as_ref()?, true)));
    for (ip, vip) in external_ips.chain(vips).filter(|(ip, _)| !ip.is_empty()) {
        // 0.0.0.0 would be a NodePort, 127.0.0.1 a port of the node itself.
        let Some(addr) = address(ip)
            .filter(|addr| !addr.is_unspecified() && !addr.is_loopback() && !addr.is_multicast())
        else {
            problems.insert(Problem::Address(ip.clone()));
            continue;
        };
        let family = Family::of(addr);
        if families.contains(&family) {
            let exposure = addresses.entry(addr).or_insert(Exposure::EXTERNAL);
            exposure.source_ranges |= vip && source_ranges.contains_key(&family);
        }
    }
    addresses
}

/// By family, for the families that are restricted. A range of length zero
/// restricts nothing, nor do ranges of the other family. If none can be read,
/// nobody gets in: what was meant to restrict must not open.
fn source_ranges(
    service: &v1::Service,
    spec: &ServiceSpec,
    problems: &mut BTreeSet<Problem>,
) -> BTreeMap<Family, Vec<IpNet>> {
    let field = spec.load_balancer_source_ranges.as_deref().unwrap_or(&[]);
    let annotation = annotation(service, SOURCE_RANGES_ANNOTATION).filter(|_| field.is_empty());
    let texts = field.iter().map(String::as_str).chain(
        annotation
            .into_iter()
            .flat_map(|ranges: &str| ranges.split(',')),
    );
    let mut families: BTreeMap<Family, BTreeSet<IpNet>> = BTreeMap::new();
    let mut unreadable = false;
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        let Ok(range) = text.parse::<IpNet>() else {
            unreadable = true;
            problems.insert(Problem::SourceRange(text.to_owned()));
            continue;
        };
        let ranges = families.entry(Family::of(range.addr())).or_default();
        ranges.insert(range.trunc());
    }
    if families.is_empty() && unreadable {
        return BTreeMap::from([(Family::V4, Vec::new()), (Family::V6, Vec::new())]);
    }
    families.retain(|_, ranges| ranges.iter().all(|range| range.prefix_len() > 0));
    families
        .into_iter()
        .map(|(family, ranges)| (family, ranges.into_iter().collect()))
        .collect()
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0);
    Some(timeout.unwrap_or(AFFINITY_SECONDS))
}

fn balance(service: &v1::Service, problems: &mut BTreeSet<Problem>) -> Balance {
    match annotation(service, BALANCE_ANNOTATION) {
        None | Some("random") => Balance::Random,
        Some("maglev") => Balance::Maglev,
        Some("least") => Balance::Least,
        Some(other) => {
            problems.insert(Problem::Balance(other.to_owned()));
            Balance::Random
        }
    }
}

fn annotation<'a>(service: &'a v1::Service, name: &str) -> Option<&'a str> {
    let annotations = service.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

//! What of a Service its names need.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;

/// None of these has a name when it is of no use: a Service without an address
/// that is not headless either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub kind: Kind,
    pub ports: Box<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With these addresses, its main one first.
    Cluster(Box<[IpAddr]>),
    Headless,
    /// `spec.externalName`.
    External(Box<str>),
}

/// In lower case, as questions are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty for one without a name.
    pub name: Box<str>,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: Box<str>,
    /// 0 stands for any.
    pub number: u16,
}

impl Service {
    pub fn read(object: &v1::Service) -> Self {
        let spec = object.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_deref());
        let ports = ports.unwrap_or_default().iter();
        let ports =
            ports.map(|port| Port::new(port.name.as_deref(), port.protocol.as_deref(), port.port));
        Self {
            kind: Kind::read(spec),
            ports: ports.collect(),
        }
    }

    pub fn cluster_ips(&self) -> &[IpAddr] {
        match &self.kind {
            Kind::Cluster(ips) => ips,
            _ => &[],
        }
    }
}

impl Kind {
    fn read(spec: Option<&v1::ServiceSpec>) -> Self {
        let Some(spec) = spec else {
            return Self::Cluster(Box::default());
        };
        if spec.type_.as_deref() == Some("ExternalName") {
            let name = spec.external_name.as_deref().unwrap_or_default();
            return Self::External(name.into());
        }
        if spec.cluster_ip.as_deref() == Some("None") {
            return Self::Headless;
        }
        let mut ips: Vec<IpAddr> = Vec::new();
        let texts = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        for ip in texts.filter_map(|text| address(text)) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        Self::Cluster(ips.into())
    }
}

impl Port {
    pub fn new(name: Option<&str>, protocol: Option<&str>, number: i32) -> Self {
        Self {
            name: name.unwrap_or_default().to_ascii_lowercase().into(),
            protocol: protocol.unwrap_or("TCP").to_ascii_lowercase().into(),
            number: u16::try_from(number).unwrap_or_default(),
        }
    }
}

/// An IPv4 address in IPv6's clothes is an IPv4 address, as for Kubernetes.
pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

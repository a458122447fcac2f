//! From who sends and for whom to a packet: addresses of one family, a port, a protocol. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use vetch_policy::container_ports;
use vetch_proxy::Protocol;
use vetch_proxy::inspect::{Opening, Question};

use crate::cli::Kind;
use crate::names;

/// An end of a conversation, as the API server knows it.
pub enum Found {
    Address(IpAddr),
    Pod(Pod),
    Service(Service),
}

/// A port that has a name, or none.
struct Port<'a> {
    name: Option<&'a str>,
    number: i32,
    protocol: Option<&'a str>,
}

pub fn question(
    src: &Found,
    dst: &Found,
    port: Option<&str>,
    protocol: Option<Protocol>,
) -> Result<Question> {
    let (from, to) = (src.addresses()?, dst.addresses()?);
    // Of two families the destination's first, which is the one that its name stands for.
    let pairs = to
        .iter()
        .flat_map(|dst| from.iter().map(move |src| (*src, *dst)));
    let mut alike = pairs.filter(|(src, dst)| src.is_ipv4() == dst.is_ipv4());
    let (src, dst_ip) = alike.next().with_context(|| {
        let (src, dst) = (src.name(), dst.name());
        format!("{src} and {dst} have no addresses of one family")
    })?;
    Ok(Question {
        src,
        dst: dst_ip,
        what: dst.opening(port, protocol)?,
    })
}

impl Found {
    /// As errors have it.
    fn name(&self) -> String {
        let named = |kind: Kind, namespace: Option<String>, name: String| {
            let namespace = namespace.unwrap_or_default();
            format!("the {} {namespace}/{name}", kind.as_str())
        };
        match self {
            Found::Address(ip) => ip.to_string(),
            Found::Pod(pod) => named(Kind::Pod, pod.namespace(), pod.name_any()),
            Found::Service(service) => {
                named(Kind::Service, service.namespace(), service.name_any())
            }
        }
    }

    /// One at least; of a pod and a Service their own family first.
    fn addresses(&self) -> Result<Vec<IpAddr>> {
        let found = match self {
            Found::Address(ip) => vec![*ip],
            Found::Service(service) => {
                let found = service.spec.as_ref().map(names::addresses);
                let found = found.unwrap_or_default();
                ensure!(
                    !found.is_empty(),
                    "{} has no address of the cluster's: name one of its pods",
                    self.name()
                );
                found
            }
            Found::Pod(pod) => {
                let status = pod.status.as_ref();
                let phase = status.and_then(|status| status.phase.as_deref());
                let phase = phase.unwrap_or("Pending");
                // What it had may be another's by now.
                if matches!(phase, "Succeeded" | "Failed") {
                    bail!("{} has ended ({phase})", self.name());
                }
                let ips = status.and_then(|status| status.pod_ips.as_ref());
                let found: Vec<IpAddr> = ips
                    .into_iter()
                    .flatten()
                    .filter_map(|ip| ip.ip.parse().ok())
                    .collect();
                ensure!(
                    !found.is_empty(),
                    "{} has no address yet ({phase})",
                    self.name()
                );
                found
            }
        };
        Ok(found)
    }

    fn ports(&self) -> Vec<Port<'_>> {
        match self {
            Found::Address(_) => Vec::new(),
            Found::Service(service) => {
                let ports = service
                    .spec
                    .iter()
                    .flat_map(|spec| spec.ports.iter().flatten());
                let ports = ports.map(|port| Port {
                    name: port.name.as_deref(),
                    number: port.port,
                    protocol: port.protocol.as_deref(),
                });
                ports.collect()
            }
            Found::Pod(pod) => {
                let ports = pod.spec.iter().flat_map(container_ports);
                let ports = ports.map(|port| Port {
                    name: port.name.as_deref(),
                    number: port.container_port,
                    protocol: port.protocol.as_deref(),
                });
                ports.collect()
            }
        }
    }

    fn opening(&self, port: Option<&str>, protocol: Option<Protocol>) -> Result<Opening> {
        let is_service = matches!(self, Found::Service(_));
        let Some(port) = port else {
            if is_service {
                return self.chosen(None, protocol);
            }
            if protocol.is_some() {
                bail!("a port is missing: --protocol asks for one, as in ADDRESS:PORT");
            }
            return Ok(Opening::Ping);
        };
        // What a pod does not name it may listen on all the same.
        match port.parse::<u16>() {
            Ok(number) if !is_service => {
                Ok(Opening::Port(protocol.unwrap_or(Protocol::Tcp), number))
            }
            _ => self.chosen(Some(port), protocol),
        }
    }

    /// Of its ports the one that is meant: TCP's, where one number stands for several.
    fn chosen(&self, port: Option<&str>, protocol: Option<Protocol>) -> Result<Opening> {
        let all = self.ports();
        let is_meant = |one: &Port<'_>| {
            port.is_none_or(|port| one.name == Some(port) || one.number.to_string() == port)
        };
        let mut meant: Vec<(u16, Protocol)> = all
            .iter()
            .filter(|one| is_meant(one))
            .filter_map(|one| {
                Some((
                    u16::try_from(one.number).ok()?,
                    Protocol::named(one.protocol)?,
                ))
            })
            .filter(|(_, own)| protocol.is_none_or(|protocol| protocol == *own))
            .collect();
        if port.is_some() && meant.len() > 1 {
            meant.retain(|(_, own)| *own == Protocol::Tcp);
        }
        if let [(number, protocol)] = meant[..] {
            return Ok(Opening::Port(protocol, number));
        }
        let list: Vec<String> = all.iter().map(Port::text).collect();
        let list = match list.is_empty() {
            true => "it names none".to_owned(),
            false => format!("it has {}", list.join(", ")),
        };
        match port {
            Some(port) => bail!("{} has no such port {port}: {list}", self.name()),
            None => bail!("say which port of {}: {list}", self.name()),
        }
    }
}

impl Port<'_> {
    /// `http 80/TCP`
    fn text(&self) -> String {
        let name = self.name.map(|name| format!("{name} ")).unwrap_or_default();
        format!("{name}{}/{}", self.number, self.protocol.unwrap_or("TCP"))
    }
}

#[cfg(test)]
mod tests;

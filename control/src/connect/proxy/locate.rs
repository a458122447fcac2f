//! Which server a pod's, a service's or a node's proxy leads to.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde_json::Value;
use vetch_server::status::{Result, Status};

use crate::admission::{list, text};
use crate::connect::kubelet;

/// `[SCHEME:]NAME[:PORT]`; the port may be empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub https: bool,
    pub name: &'a str,
    pub port: &'a str,
}

/// A server in a pod or on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub https: bool,
    pub address: SocketAddr,
}

/// A server on a node, which may be known by a name of DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnNode<'a> {
    pub https: bool,
    pub host: &'a str,
    pub port: u16,
    /// It is shown the API server's own certificate.
    pub is_kubelet: bool,
}

impl<'a> Asked<'a> {
    pub fn parse(text: &'a str) -> Option<Asked<'a>> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Asked {
            https: scheme == "https",
            name,
            port,
        })
    }

    /// Where this address is asked.
    pub fn place(&self, address: &str, port: u16) -> Result<Place> {
        let ip = address.parse().map_err(|_| not_allowed())?;
        Ok(Place {
            https: self.https,
            address: allowed(SocketAddr::new(ip, port))?,
        })
    }
}

/// A pod or a node may say that its address is the API server's own loopback: nobody is led there.
pub fn allowed(address: SocketAddr) -> Result<SocketAddr> {
    let ip = address.ip();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local {
        return Err(not_allowed());
    }
    Ok(address)
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// The pod's address, and its first port where none is asked for.
pub fn pod(pod: &Value, asked: &Asked<'_>) -> Result<Place> {
    let first = || {
        let containers = list(pod, "/spec/containers").iter();
        let mut ports = containers.flat_map(|container| list(container, "/ports"));
        u16::try_from(ports.next()?["containerPort"].as_u64()?).ok()
    };
    let port = match asked.port {
        "" => first().unwrap_or(if asked.https { 443 } else { 80 }),
        port => number("pod", port)?,
    };
    asked.place(text(pod, "/status/podIP"), port)
}

/// The kubelet where no port or its own is asked for; it is asked over HTTPS, whatever the client says.
pub fn node<'a>(node: &'a Value, asked: &Asked<'_>) -> Result<OnNode<'a>> {
    let (host, own) = kubelet::listens(node)?;
    let port = match asked.port {
        "" => own,
        port => number("node", port)?,
    };
    let is_kubelet = port == own;
    Ok(OnNode {
        https: is_kubelet || asked.https,
        host,
        port,
        is_kubelet,
    })
}

fn number(of: &str, port: &str) -> Result<u16> {
    let number: u64 = port
        .parse()
        .map_err(|_| Status::bad_request(format!("a {of}'s port is a number, not {port:?}")))?;
    u16::try_from(number).map_err(|_| Status::bad_request(format!("there is no port {number}")))
}

/// The ready endpoints of the service's port: by number or by name, the nameless one where none is asked for. Those of
/// the service's first address family, of another only where that has none (kubernetes/kubernetes#134860).
pub fn service<'a>(
    service: &Value,
    slices: &[&'a Value],
    asked: &Asked<'_>,
) -> Result<Vec<(&'a str, u16)>> {
    let name = match asked.port.parse::<u64>() {
        Err(_) => asked.port,
        Ok(number) => {
            let mut ports = list(service, "/spec/ports").iter();
            let port = ports.find(|port| port["port"].as_u64() == Some(number));
            let port = port.ok_or_else(|| {
                let name = asked.name;
                unavailable(format!(
                    "no service port {number} found for service {name:?}"
                ))
            })?;
            text(port, "/name")
        }
    };
    let first = text(service, "/spec/ipFamilies/0");
    let is_first = |slice: &Value| first.is_empty() || text(slice, "/addressType") == first;
    let (own, others): (Vec<&Value>, Vec<&Value>) =
        slices.iter().copied().partition(|slice| is_first(slice));
    let places = ready(&own, name);
    Ok(match places.is_empty() {
        true => ready(&others, name),
        false => places,
    })
}

fn ready<'a>(slices: &[&'a Value], port: &str) -> Vec<(&'a str, u16)> {
    let mut places = Vec::new();
    for slice in slices {
        let mut ports = list(slice, "/ports").iter();
        let number = ports
            .find(|own| text(own, "/name") == port)
            .and_then(|own| u16::try_from(own["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        let endpoints = list(slice, "/endpoints").iter();
        let ready = endpoints.filter(|own| own["conditions"]["ready"] != false);
        places.extend(ready.map(|own| (text(own, "/addresses/0"), number)));
    }
    places
}

pub fn no_endpoints(service: &str) -> Status {
    unavailable(format!("no endpoints available for service {service:?}"))
}

pub fn unavailable(message: String) -> Status {
    Status::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        message,
    )
}

#[cfg(test)]
mod tests;

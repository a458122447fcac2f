//! Ports of the node that lead to a pod.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use vetch_ebpf_common::Protocol;

/// One that a pod asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// Where it is dialled; `None` for all addresses of the node, of both families.
    pub host_ip: Option<IpAddr>,
    #[serde(with = "ProtocolName")]
    pub protocol: Protocol,
    pub port: u16,
    /// Where the pod answers.
    pub container_port: u16,
}

impl HostPort {
    /// Whether a node has no room for both: by the rule of Kubernetes' scheduler.
    pub fn collides(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.host_ip.is_none() || other.host_ip.is_none() || self.host_ip == other.host_ip)
    }

    /// SCTP's ports are never changed on the way: its checksum covers the whole packet.
    pub fn can_be_served(&self) -> bool {
        self.protocol != Protocol::Sctp || self.port == self.container_port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        match self.host_ip {
            None => write!(f, "{}/{protocol}", self.port),
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:{}/{protocol}", self.port),
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}/{protocol}", self.port),
        }
    }
}

/// An attached pod with ports of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPorts {
    pub ips: Vec<IpAddr>,
    pub ports: Vec<HostPort>,
}

/// The attached pods that have any, by their sandboxes.
pub type HostPorts = BTreeMap<String, PodPorts>;

/// As it stands in records.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Protocol", rename_all = "UPPERCASE")]
enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: Option<&str>, protocol: Protocol, port: u16) -> HostPort {
        HostPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            protocol,
            port,
            container_port: 80,
        }
    }

    #[test]
    fn the_port_on_all_addresses_collides_with_it_on_any() {
        use Protocol::{Tcp, Udp};
        let one = Some("192.0.2.1");
        for (a, b, collide) in [
            (port(None, Tcp, 80), port(None, Tcp, 80), true),
            (port(None, Tcp, 80), port(one, Tcp, 80), true),
            (port(one, Tcp, 80), port(one, Tcp, 80), true),
            (port(one, Tcp, 80), port(Some("127.0.0.1"), Tcp, 80), false),
            (port(None, Tcp, 80), port(None, Udp, 80), false),
            (port(None, Tcp, 80), port(None, Tcp, 81), false),
        ] {
            assert_eq!(a.collides(&b), collide, "{a} {b}");
            assert_eq!(b.collides(&a), collide, "{b} {a}");
        }
    }

    #[test]
    fn sctp_keeps_its_port() {
        for (protocol, number, served) in [
            (Protocol::Tcp, 8080, true),
            (Protocol::Sctp, 80, true),
            (Protocol::Sctp, 8080, false),
        ] {
            let port = port(None, protocol, number);
            assert_eq!(port.can_be_served(), served, "{port}");
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        for (port, text) in [
            (
                port(None, Protocol::Tcp, 8080),
                r#"{"hostIp":null,"protocol":"TCP","port":8080,"containerPort":80}"#,
            ),
            (
                port(Some("::1"), Protocol::Sctp, 80),
                r#"{"hostIp":"::1","protocol":"SCTP","port":80,"containerPort":80}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&port).unwrap(), text);
            assert_eq!(serde_json::from_str::<HostPort>(text).unwrap(), port);
        }
        assert_eq!(
            port(Some("::1"), Protocol::Udp, 53).to_string(),
            "[::1]:53/UDP"
        );
    }
}

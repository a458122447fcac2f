//! From a client's port mappings to the node's ports that lead to a sandbox.

use std::net::IpAddr;

use tonic::Status;
use vetch_cri_proto::v1::{NamespaceMode, PodSandboxConfig, PortMapping, Protocol as Wire};
use vetch_network::{HostPort, Protocol};

use crate::error::unsupported;

/// `served`: whether this node has somebody who serves them. Mappings without a port of the node's
/// only say where a pod listens, as do those of one in the node's network.
///
/// # Errors
/// `InvalidArgument` for what cannot be, `Unimplemented` for what is not done here.
pub fn host_ports(config: &PodSandboxConfig, served: bool) -> Result<Vec<HostPort>, Status> {
    if is_in_host_network(config) {
        return Ok(Vec::new());
    }
    let mappings = config.port_mappings.iter();
    let mappings = mappings.filter(|mapping| mapping.host_port != 0);
    mappings.map(|mapping| host_port(mapping, served)).collect()
}

fn host_port(mapping: &PortMapping, served: bool) -> Result<HostPort, Status> {
    let name = mapping.host_port;
    if !served {
        return Err(unsupported(&format!(
            "host_port {name} of port_mappings is"
        )));
    }
    let invalid = |words: String| Status::invalid_argument(format!("port_mappings: {words}"));
    let number = |number: i32| {
        let fits = u16::try_from(number).ok().filter(|number| *number != 0);
        fits.ok_or_else(|| invalid(format!("{number} is no port")))
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" | "0.0.0.0" => None,
        ip => {
            let parsed = ip.parse::<IpAddr>();
            let parsed = parsed.map_err(|_| invalid(format!("host_ip {ip:?} is no address")))?;
            Some(parsed.to_canonical())
        }
    };
    let protocol = match Wire::try_from(mapping.protocol) {
        Ok(Wire::Tcp) => Protocol::Tcp,
        Ok(Wire::Udp) => Protocol::Udp,
        Ok(Wire::Sctp) => Protocol::Sctp,
        Err(_) => return Err(invalid(format!("unknown protocol {}", mapping.protocol))),
    };
    let port = HostPort {
        host_ip,
        protocol,
        port: number(mapping.host_port)?,
        container_port: number(mapping.container_port)?,
    };
    if !port.can_be_served() {
        let other = port.container_port;
        return Err(unsupported(&format!(
            "host_port {port} of port_mappings that leads to another container_port, {other}, is"
        )));
    }
    Ok(port)
}

fn is_in_host_network(config: &PodSandboxConfig) -> bool {
    let linux = config.linux.as_ref();
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    let namespaces = security.and_then(|security| security.namespace_options.as_ref());
    namespaces.is_some_and(|namespaces| namespaces.network == NamespaceMode::Node as i32)
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use vetch_cri_proto::v1::{
        LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption,
    };

    use super::*;

    fn config(mappings: &[(i32, i32, &str, i32)], network: NamespaceMode) -> PodSandboxConfig {
        let mapping =
            |(host_port, container_port, host_ip, protocol): &(i32, i32, &str, i32)| PortMapping {
                host_port: *host_port,
                container_port: *container_port,
                host_ip: (*host_ip).into(),
                protocol: *protocol,
            };
        PodSandboxConfig {
            port_mappings: mappings.iter().map(mapping).collect(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        network: network as i32,
                        ..NamespaceOption::default()
                    }),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    #[test]
    fn mappings_with_a_port_of_the_nodes() {
        let [tcp, udp, sctp] = [Wire::Tcp, Wire::Udp, Wire::Sctp].map(|one| one as i32);
        let mappings = [
            (0, 80, "", tcp),
            (8080, 80, "", tcp),
            (53, 5353, "0.0.0.0", udp),
            (9999, 9999, "::ffff:192.0.2.1", sctp),
        ];
        let asked = config(&mappings, NamespaceMode::Pod);
        let ports = host_ports(&asked, true).unwrap();
        let line = |port: &HostPort| format!("{port} {}", port.container_port);
        assert_eq!(
            ports.iter().map(line).collect::<Vec<_>>(),
            ["8080/TCP 80", "53/UDP 5353", "192.0.2.1:9999/SCTP 9999"]
        );
        let refused = host_ports(&asked, false).unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        for served in [false, true] {
            let in_host_network = config(&mappings, NamespaceMode::Node);
            assert_eq!(host_ports(&in_host_network, served).unwrap(), []);
            let none = config(&mappings[..1], NamespaceMode::Pod);
            assert_eq!(host_ports(&none, served).unwrap(), []);
        }
    }

    #[test]
    fn refusals() {
        for (mapping, code) in [
            ((-1, 80, "", 0), Code::InvalidArgument),
            ((65536, 80, "", 0), Code::InvalidArgument),
            ((8080, 0, "", 0), Code::InvalidArgument),
            ((8080, 80, "localhost", 0), Code::InvalidArgument),
            ((8080, 80, "", 7), Code::InvalidArgument),
            ((8080, 80, "", Wire::Sctp as i32), Code::Unimplemented),
        ] {
            let refused = host_ports(&config(&[mapping], NamespaceMode::Pod), true).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
        }
    }
}

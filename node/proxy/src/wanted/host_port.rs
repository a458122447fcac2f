//! Ports of the node that lead to one of its pods: a NodePort's way with one
//! backend, which is the pod's own address.

use std::{collections::BTreeSet, net::IpAddr};

use vetch_network::{HostPort, PodPorts};

use super::Family;
use crate::model::{Backend, Balance, Exposure, Frontend, ServicePort, Target};

/// One for each port and family of the pod. `node` has the node's addresses; a
/// port at another is nobody's until the node gets that address, so that no pod
/// takes what is sent elsewhere. What `is_taken` by a service is the service's:
/// the rules of the CNI plugin `portmap` come behind kube-proxy's (CVE-2019-9946).
pub fn host_ports(
    pod: &PodPorts,
    node: &BTreeSet<IpAddr>,
    is_taken: impl Fn(&Frontend) -> bool,
) -> Vec<ServicePort> {
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::new();
    for port in pod.ports.iter().filter(|port| port.can_be_served()) {
        for family in [Family::V4, Family::V6] {
            let mut ips = pod.ips.iter().copied();
            let Some(ip) = ips.find(|ip| Family::of(*ip) == family) else {
                continue;
            };
            let frontend = frontend(port, family, node).filter(|frontend| {
                let everywhere = Frontend {
                    addr: family.unspecified(),
                    ..*frontend
                };
                !is_taken(frontend) && !is_taken(&everywhere)
            });
            wanted.extend(
                frontend
                    .filter(|frontend| seen.insert(*frontend))
                    .map(|frontend| service_port(frontend, ip, port)),
            );
        }
    }
    wanted
}

fn frontend(port: &HostPort, family: Family, node: &BTreeSet<IpAddr>) -> Option<Frontend> {
    let addr = match port.host_ip {
        None => family.unspecified(),
        Some(ip) => {
            let is_ours = ip.is_unspecified() || ip.is_loopback() || node.contains(&ip);
            Some(ip).filter(|ip| Family::of(*ip) == family && is_ours)?
        }
    };
    Some(Frontend {
        addr,
        port: port.port,
        protocol: port.protocol,
    })
}

fn service_port(frontend: Frontend, ip: IpAddr, port: &HostPort) -> ServicePort {
    let backends = vec![Backend {
        addr: ip,
        port: port.container_port,
    }];
    let serving = if Target::tracks(port.protocol, None, Balance::Random) {
        backends.clone()
    } else {
        Vec::new()
    };
    ServicePort {
        frontends: [(frontend, Exposure::EXTERNAL)].into(),
        target: Target {
            cluster: backends,
            serving,
            ..Target::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use vetch_network::Protocol;

    use super::*;

    const NODE: &str = "192.0.2.1";

    fn port(host_ip: &str, protocol: Protocol, port: u16) -> HostPort {
        HostPort {
            host_ip: host_ip.parse().ok(),
            protocol,
            port,
            container_port: 80,
        }
    }

    fn wanted(ips: &[&str], ports: &[HostPort], taken: &[&str]) -> Vec<ServicePort> {
        let pod = PodPorts {
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ports: ports.to_vec(),
        };
        let node = [NODE, "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let taken: BTreeSet<Frontend> = taken.iter().map(|text| text.parse().unwrap()).collect();
        host_ports(&pod, &node.into(), |frontend| taken.contains(frontend))
    }

    fn lines(ports: &[ServicePort]) -> Vec<String> {
        let line = |port: &ServicePort| {
            let frontends: Vec<_> = port.frontends.keys().map(ToString::to_string).collect();
            let backends: Vec<_> = port
                .target
                .cluster
                .iter()
                .map(ToString::to_string)
                .collect();
            format!("{} -> {}", frontends.join(" "), backends.join(" "))
        };
        ports.iter().map(line).collect()
    }

    #[test]
    fn a_port_is_dialled_where_its_address_says() {
        use Protocol::{Sctp, Tcp, Udp};
        let four = &["10.244.1.2"][..];
        let both = &["10.244.1.2", "fd00::2"][..];
        for (ips, port, expected) in [
            (
                four,
                port("", Tcp, 8080),
                &["0.0.0.0:8080/TCP -> 10.244.1.2:80"][..],
            ),
            (
                both,
                port("", Udp, 8080),
                &[
                    "0.0.0.0:8080/UDP -> 10.244.1.2:80",
                    "[::]:8080/UDP -> [fd00::2]:80",
                ],
            ),
            (
                both,
                port("::", Tcp, 8080),
                &["[::]:8080/TCP -> [fd00::2]:80"],
            ),
            (
                both,
                port(NODE, Tcp, 8080),
                &["192.0.2.1:8080/TCP -> 10.244.1.2:80"],
            ),
            (
                both,
                port("127.0.0.1", Tcp, 8080),
                &["127.0.0.1:8080/TCP -> 10.244.1.2:80"],
            ),
            (
                both,
                port("::1", Tcp, 8080),
                &["[::1]:8080/TCP -> [fd00::2]:80"],
            ),
            (
                both,
                port("2001:db8::1", Tcp, 8080),
                &["[2001:db8::1]:8080/TCP -> [fd00::2]:80"],
            ),
            (four, port("2001:db8::1", Tcp, 8080), &[]),
            (both, port("192.0.2.9", Tcp, 8080), &[]),
            (four, port("", Sctp, 8080), &[]),
            (
                four,
                port("", Sctp, 80),
                &["0.0.0.0:80/SCTP -> 10.244.1.2:80"],
            ),
            (&[], port("", Tcp, 8080), &[]),
        ] {
            assert_eq!(
                lines(&wanted(ips, &[port], &[])),
                expected,
                "{port} {ips:?}"
            );
        }
    }

    #[test]
    fn what_a_service_has_is_the_services() {
        let ports = [
            port("", Protocol::Tcp, 8080),
            port(NODE, Protocol::Tcp, 8081),
        ];
        let (everywhere, here) = (
            "0.0.0.0:8080/TCP -> 10.244.1.2:80",
            "192.0.2.1:8081/TCP -> 10.244.1.2:80",
        );
        for (taken, expected) in [
            (&[][..], &[everywhere, here][..]),
            (&["0.0.0.0:8080/UDP", "[::]:8080/TCP"], &[everywhere, here]),
            (&["0.0.0.0:8080/TCP"], &[here]),
            // Of its one address the service's own entry comes first in the maps.
            (&["192.0.2.1:8080/TCP"], &[everywhere, here]),
            (&["192.0.2.1:8081/TCP"], &[everywhere]),
            (&["0.0.0.0:8081/TCP"], &[everywhere]),
        ] {
            let wanted = wanted(&["10.244.1.2"], &ports, taken);
            assert_eq!(lines(&wanted), expected, "{taken:?}");
        }
    }

    #[test]
    fn each_port_stands_once_and_on_its_own() {
        let ports = [
            port("", Protocol::Tcp, 8080),
            port("", Protocol::Tcp, 8080),
            port("", Protocol::Udp, 8080),
        ];
        let wanted = wanted(&["10.244.1.2"], &ports, &[]);
        assert_eq!(wanted.len(), 2);
        for port in &wanted {
            let (frontend, exposure) = port.frontends.iter().next().unwrap();
            assert_eq!(*exposure, Exposure::EXTERNAL, "{frontend}");
            assert_eq!(port.target.cluster.len(), 1, "{frontend}");
            let serving = usize::from(frontend.protocol == Protocol::Udp);
            assert_eq!(port.target.serving.len(), serving, "{frontend}");
            assert!(!port.target.internal_local && !port.target.external_local);
        }
    }
}

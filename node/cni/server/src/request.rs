//! From the plugin's messages to what the network takes.

use std::net::IpAddr;

use vetch_cni_proto::v1::{self, PortMapping};
use vetch_cni_proto::{Failure, code};
use vetch_network::{Attachment, Bandwidth, HostPort, Owner, Protocol};

pub fn attachment(sent: Option<v1::Attachment>) -> Result<Attachment, Failure> {
    let missing = || Failure::new(code::DECODE, "the attachment is missing");
    let sent = sent.ok_or_else(missing)?;
    Ok(Attachment {
        network: sent.network,
        container_id: sent.container_id,
        ifname: sent.ifname,
        netns: sent.netns.into(),
    })
}

pub fn ips(sent: &[String]) -> Result<Vec<IpAddr>, Failure> {
    let parse = |text: &String| {
        let wrong = || Failure::new(code::INVALID_CONFIG, format!("{text:?} is no IP address"));
        text.parse().map_err(|_| wrong())
    };
    sent.iter().map(parse).collect()
}

/// Of a pod that the API can know: a name alone may have been another's before.
pub fn owner(sent: v1::Pod) -> Option<Owner> {
    let v1::Pod {
        namespace,
        name,
        uid,
    } = sent;
    let all = [&namespace, &name, &uid];
    all.iter().all(|part| !part.is_empty()).then_some(Owner {
        namespace,
        name,
        uid,
    })
}

pub fn bandwidth(sent: Option<v1::Bandwidth>) -> Bandwidth {
    let sent = sent.unwrap_or_default();
    let limit = |bits: u64| Some(bits).filter(|bits| *bits != 0);
    Bandwidth {
        ingress: limit(sent.ingress),
        egress: limit(sent.egress),
    }
}

/// `served`: whether this node has somebody who serves them. Mappings without a port of the node's
/// only say where a pod listens.
pub fn host_ports(sent: &[PortMapping], served: bool) -> Result<Vec<HostPort>, Failure> {
    let mappings = sent.iter().filter(|mapping| mapping.host_port != 0);
    mappings.map(|mapping| host_port(mapping, served)).collect()
}

fn host_port(mapping: &PortMapping, served: bool) -> Result<HostPort, Failure> {
    const FIELD: &str = "runtimeConfig.portMappings";
    let unsupported = |why: &str| {
        let number = mapping.host_port;
        let words = format!("{FIELD} with hostPort {number} is not supported: {why}");
        Failure::new(code::UNSUPPORTED_FIELD, words)
    };
    if !served {
        return Err(unsupported(
            "no service proxy runs beside this network, so nobody serves ports of the node",
        ));
    }
    let invalid = |words: String| Failure::new(code::INVALID_CONFIG, format!("{FIELD}: {words}"));
    let number = |number: u32| {
        let fits = u16::try_from(number).ok().filter(|number| *number != 0);
        fits.ok_or_else(|| invalid(format!("{number} is no port")))
    };
    let host_ip = match mapping.host_ip.as_str() {
        "" | "0.0.0.0" | "::" => None,
        ip => {
            let parsed = ip.parse::<IpAddr>();
            let parsed = parsed.map_err(|_| invalid(format!("hostIP {ip:?} is no address")))?;
            Some(parsed.to_canonical())
        }
    };
    let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => return Err(invalid(format!("unknown protocol {other:?}"))),
    };
    let port = HostPort {
        host_ip,
        protocol,
        port: number(mapping.host_port)?,
        container_port: number(mapping.container_port)?,
    };
    if !port.can_be_served() {
        return Err(unsupported("SCTP's ports are not changed on the way"));
    }
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: u32, container: u32, protocol: &str, host_ip: &str) -> PortMapping {
        PortMapping {
            host_port: host,
            container_port: container,
            protocol: protocol.into(),
            host_ip: host_ip.into(),
        }
    }

    #[test]
    fn ports_are_served_or_refused() {
        for (sent, served, expected) in [
            (mapping(8080, 80, "tcp", ""), true, Ok("8080/TCP")),
            (mapping(8080, 80, "", "0.0.0.0"), true, Ok("8080/TCP")),
            (
                mapping(53, 53, "UDP", "fd00::1"),
                true,
                Ok("[fd00::1]:53/UDP"),
            ),
            (
                mapping(53, 53, "sctp", "10.0.0.1"),
                true,
                Ok("10.0.0.1:53/SCTP"),
            ),
            (
                mapping(54, 53, "sctp", ""),
                true,
                Err(code::UNSUPPORTED_FIELD),
            ),
            (
                mapping(8080, 80, "tcp", ""),
                false,
                Err(code::UNSUPPORTED_FIELD),
            ),
            (
                mapping(70_000, 80, "tcp", ""),
                true,
                Err(code::INVALID_CONFIG),
            ),
            (mapping(80, 0, "tcp", ""), true, Err(code::INVALID_CONFIG)),
            (mapping(80, 80, "icmp", ""), true, Err(code::INVALID_CONFIG)),
            (
                mapping(80, 80, "tcp", "here"),
                true,
                Err(code::INVALID_CONFIG),
            ),
        ] {
            let found = host_ports(std::slice::from_ref(&sent), served);
            let found = found.map(|ports| ports[0].to_string());
            let found = found.as_ref().map(String::as_str).map_err(|told| told.code);
            assert_eq!(found, expected, "{sent:?}");
        }
        // Nobody of the node is asked for.
        assert_eq!(host_ports(&[mapping(0, 80, "tcp", "")], false), Ok(vec![]));
    }

    #[test]
    fn owners_are_whole_or_nobody() {
        for (namespace, name, uid, expected) in [
            ("ns", "web", "1", true),
            ("", "web", "1", false),
            ("ns", "", "1", false),
            ("ns", "web", "", false),
            ("", "", "", false),
        ] {
            let [namespace, name, uid] = [namespace, name, uid].map(str::to_owned);
            let whole = Owner {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: uid.clone(),
            };
            let sent = v1::Pod {
                namespace,
                name,
                uid,
            };
            assert_eq!(owner(sent), expected.then_some(whole));
        }
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        for (sent, expected) in [
            (None, [None, None]),
            (Some((0, 0)), [None, None]),
            (Some((1_000_000, 0)), [Some(1_000_000), None]),
            (Some((0, 2_000_000)), [None, Some(2_000_000)]),
            (Some((1, 2)), [Some(1), Some(2)]),
        ] {
            let rates = sent.map(|(ingress, egress)| v1::Bandwidth { ingress, egress });
            let limits = bandwidth(rates);
            assert_eq!([limits.ingress, limits.egress], expected, "{sent:?}");
        }
    }

    #[test]
    fn addresses_are_addresses() {
        assert_eq!(ips(&["10.0.0.2".into()]).unwrap().len(), 1);
        let refused = ips(&["10.0.0.2/24".into()]).unwrap_err();
        assert_eq!(refused.code, code::INVALID_CONFIG);
        assert_eq!(attachment(None).unwrap_err().code, code::DECODE);
    }
}

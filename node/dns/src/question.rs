//! Which thing of the cluster a name means.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

use crate::zone::Zone;

/// What a name below the zone means; all in lower case. That there is such a
/// thing is not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The zone itself.
    Apex,
    /// `dns-version`
    Version,
    /// `svc`, `pod`, `dns`: there are names below.
    Branch,
    /// `ns.dns`
    NameServer,
    /// `NS.svc`, `NS.pod`
    Namespace(String),
    /// `SERVICE.NS.svc`
    Service { namespace: String, service: String },
    /// `HOST.SERVICE.NS.svc`
    Endpoint {
        namespace: String,
        service: String,
        host: String,
    },
    /// `_PROTOCOL.SERVICE.NS.svc`, and `_PORT._PROTOCOL.SERVICE.NS.svc`.
    Port {
        namespace: String,
        service: String,
        protocol: String,
        port: Option<String>,
    },
    /// `1-2-3-4.NS.pod`
    Pod { namespace: String, host: String },
    /// Nothing can be called so.
    Nowhere,
}

/// Where a name belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Cluster(Place),
    /// A whole address under `in-addr.arpa` or `ip6.arpa`.
    Reverse(IpAddr),
    /// The rest of the world's.
    Elsewhere,
}

pub fn subject(zone: &Zone, name: &Name) -> Subject {
    if zone.name.zone_of(name) {
        return Subject::Cluster(place(zone, name));
    }
    reverse(name).map_or(Subject::Elsewhere, Subject::Reverse)
}

fn place(zone: &Zone, name: &Name) -> Place {
    let depth = name.iter().count() - zone.name.iter().count();
    let labels: Option<Vec<String>> = name
        .iter()
        .take(depth)
        .map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase()))
        .collect();
    let Some(labels) = labels else {
        return Place::Nowhere;
    };
    let labels: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
    let own = |text: &&str| (*text).to_owned();
    match labels.as_slice() {
        [] => Place::Apex,
        ["dns-version"] => Place::Version,
        ["svc" | "pod" | "dns"] => Place::Branch,
        ["dns", "ns"] => Place::NameServer,
        ["svc" | "pod", namespace] => Place::Namespace(own(namespace)),
        ["pod", namespace, host] => Place::Pod {
            namespace: own(namespace),
            host: own(host),
        },
        ["svc", namespace, service] => Place::Service {
            namespace: own(namespace),
            service: own(service),
        },
        ["svc", namespace, service, last] => match last.strip_prefix('_') {
            Some(protocol) => Place::Port {
                namespace: own(namespace),
                service: own(service),
                protocol: protocol.to_owned(),
                port: None,
            },
            None => Place::Endpoint {
                namespace: own(namespace),
                service: own(service),
                host: own(last),
            },
        },
        ["svc", namespace, service, protocol, port] => {
            match (protocol.strip_prefix('_'), port.strip_prefix('_')) {
                (Some(protocol), Some(port)) if !port.is_empty() => Place::Port {
                    namespace: own(namespace),
                    service: own(service),
                    protocol: protocol.to_owned(),
                    port: Some(port.to_owned()),
                },
                _ => Place::Nowhere,
            }
        }
        _ => Place::Nowhere,
    }
}

/// RFC 1035 3.5, RFC 3596 2.5.
fn reverse(name: &Name) -> Option<IpAddr> {
    let labels: Option<Vec<&str>> = name
        .iter()
        .map(|label| std::str::from_utf8(label).ok())
        .collect();
    let mut labels = labels?;
    let is = |label: Option<&str>, word: &str| {
        label.is_some_and(|label| label.eq_ignore_ascii_case(word))
    };
    if !is(labels.pop(), "arpa") {
        return None;
    }
    let family = labels.pop();
    labels.reverse();
    if is(family, "in-addr") && labels.len() == 4 {
        let octets: Option<Vec<u8>> = labels.iter().map(|label| label.parse().ok()).collect();
        let octets: [u8; 4] = octets?.try_into().ok()?;
        return Some(Ipv4Addr::from(octets).into());
    }
    if is(family, "ip6") && labels.len() == 32 {
        let mut bits = 0_u128;
        for label in labels {
            let nibble = u128::from_str_radix(label, 16)
                .ok()
                .filter(|_| label.len() == 1)?;
            bits = bits << 4 | nibble;
        }
        return Some(Ipv6Addr::from(bits).into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Subject {
        let zone = Zone::new("cluster.local").unwrap();
        subject(&zone, &Name::from_ascii(name).unwrap())
    }

    #[test]
    fn addresses_are_read_backwards() {
        for (name, expected) in [
            ("1.0.96.10.in-addr.arpa.", Some("10.96.0.1")),
            ("1.0.96.10.IN-ADDR.ARPA.", Some("10.96.0.1")),
            (
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.F.ip6.arpa.",
                Some("fd00::1"),
            ),
            ("0.96.10.in-addr.arpa.", None),
            ("1.1.0.96.10.in-addr.arpa.", None),
            ("256.0.96.10.in-addr.arpa.", None),
            ("x.0.96.10.in-addr.arpa.", None),
            ("1.0.96.10.arpa.", None),
            ("arpa.", None),
            (".", None),
        ] {
            let expected = expected.map(|ip| Subject::Reverse(ip.parse().unwrap()));
            assert_eq!(
                asked(name),
                expected.unwrap_or(Subject::Elsewhere),
                "{name}"
            );
        }
    }

    #[test]
    fn the_zone_ends_at_a_dot() {
        assert_eq!(asked("cluster.local."), Subject::Cluster(Place::Apex));
        assert_eq!(asked("notcluster.local."), Subject::Elsewhere);
        assert_eq!(asked("local."), Subject::Elsewhere);
        let deep = "a.b.c.d.ns.svc.cluster.local.";
        assert_eq!(asked(deep), Subject::Cluster(Place::Nowhere));
    }
}

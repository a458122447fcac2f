//! What clients are told of addresses and networks that are read, but not as everybody reads or writes them.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::{Lax, lax, with_leading_zeros};
use crate::field::Path;

/// Of a valid address.
pub fn address(at: &Path, text: &str) -> Option<String> {
    let (ip, standard) = match text.parse() {
        Ok(IpAddr::V6(ip)) => (unmapped(ip), ip.to_ipv4_mapped().is_none()),
        Ok(ip) => (ip, true),
        Err(_) => (with_leading_zeros(text)?.into(), false),
    };
    let wanted = ip.to_string();
    if !standard {
        return Some(non_standard(at, "IP address", text, &wanted));
    }
    (wanted != text).then(|| {
        format!("{at}: IPv6 address {text:?} should be in RFC 5952 canonical format ({wanted:?})")
    })
}

/// Of a valid network.
pub fn network(at: &Path, text: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(Lax { ip, bits, strict }) = lax(text) else {
        return warnings;
    };
    let mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let Ok(net) = IpNet::new(ip, bits).map(|net| net.trunc()) else {
        return warnings;
    };
    let wanted = match net {
        IpNet::V6(own) if own.addr().to_ipv4_mapped().is_some() => {
            format!("{}/{}", unmapped(own.addr()), bits.saturating_sub(96))
        }
        own => own.to_string(),
    };
    if net.addr() != ip {
        let (one, longest) = match ip {
            IpAddr::V6(ip) => (unmapped(ip), 128),
            ip => (ip, 32),
        };
        let one = format!("{one}/{longest}");
        warnings.push(format!(
            "{at}: CIDR value {text:?} is ambiguous in this context (should be {wanted:?} or {one:?}?)"
        ));
    }
    if mapped || !strict {
        warnings.push(non_standard(at, "CIDR value", text, &wanted));
    }
    if warnings.is_empty() && wanted != text {
        warnings.push(format!(
            "{at}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({wanted:?})"
        ));
    }
    warnings
}

fn non_standard(at: &Path, what: &str, text: &str, wanted: &str) -> String {
    format!(
        "{at}: non-standard {what} {text:?} will be considered invalid in a future Kubernetes release: use {wanted:?}"
    )
}

fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(ip.into(), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUTURE: &str = "will be considered invalid in a future Kubernetes release: use";
    const CANONICAL: &str = "should be in RFC 5952 canonical format";

    #[test]
    fn addresses() {
        for (text, told) in [
            ("10.9.8.7", None),
            ("2001:db8::1", None),
            ("nonsense", None),
            (
                "010.9.08.7",
                Some(format!(
                    "non-standard IP address \"010.9.08.7\" {FUTURE} \"10.9.8.7\""
                )),
            ),
            (
                "::ffff:10.9.8.7",
                Some(format!(
                    "non-standard IP address \"::ffff:10.9.8.7\" {FUTURE} \"10.9.8.7\""
                )),
            ),
            (
                "2001:DB8:0:0::1",
                Some(format!(
                    "IPv6 address \"2001:DB8:0:0::1\" {CANONICAL} (\"2001:db8::1\")"
                )),
            ),
        ] {
            let told = told.map(|told| format!("spec.x: {told}"));
            assert_eq!(address(&Path::new("spec.x"), text), told, "{text}");
        }
    }

    #[test]
    fn networks() {
        let ambiguous = |text: &str, net: &str, one: &str| {
            format!(
                "CIDR value {text:?} is ambiguous in this context (should be {net:?} or {one:?}?)"
            )
        };
        let future =
            |text: &str, net: &str| format!("non-standard CIDR value {text:?} {FUTURE} {net:?}");
        for (text, told) in [
            ("10.9.8.0/24", vec![]),
            ("::/0", vec![]),
            ("nonsense/8", vec![]),
            (
                "10.9.8.7/24",
                vec![ambiguous("10.9.8.7/24", "10.9.8.0/24", "10.9.8.7/32")],
            ),
            (
                "010.9.8.7/024",
                vec![
                    ambiguous("010.9.8.7/024", "10.9.8.0/24", "10.9.8.7/32"),
                    future("010.9.8.7/024", "10.9.8.0/24"),
                ],
            ),
            (
                "::ffff:10.9.8.0/120",
                vec![future("::ffff:10.9.8.0/120", "10.9.8.0/24")],
            ),
            (
                "2001:DB8::/64",
                vec![format!(
                    "IPv6 CIDR value \"2001:DB8::/64\" {CANONICAL} (\"2001:db8::/64\")"
                )],
            ),
        ] {
            let told: Vec<String> = told.iter().map(|told| format!("spec.x: {told}")).collect();
            assert_eq!(network(&Path::new("spec.x"), text), told, "{text}");
        }
    }
}

//! Addresses and networks in fields that are older than strict parsing: what is wrong with them, in Kubernetes' words.

pub mod warnings;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NETWORK: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// What is wrong with an address; one that was there before strictness (`known`) may stay.
pub fn address<'a>(text: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    if known.any(|old| old == text) {
        return None;
    }
    match text.parse() {
        Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_some() => {
            Some("must not be an IPv4-mapped IPv6 address")
        }
        Ok(_) => None,
        Err(_) if with_leading_zeros(text).is_some() => Some("must not have leading 0s"),
        Err(_) => Some(ADDRESS),
    }
}

/// The same for a network.
pub fn network<'a>(text: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    if known.any(|old| old == text) {
        return None;
    }
    let Some(Lax { ip, bits, strict }) = lax(text) else {
        return Some(NETWORK);
    };
    if !strict {
        return Some("must not have leading 0s in IP or prefix length");
    }
    match (ip, IpNet::new(ip, bits)) {
        (IpAddr::V6(ip), _) if ip.to_ipv4_mapped().is_some() => {
            Some("must not have an IPv4-mapped IPv6 address")
        }
        (_, Ok(net)) if net == net.trunc() => None,
        _ => Some("must not have bits set beyond the prefix length"),
    }
}

/// A network as software reads it that takes leading zeros.
struct Lax {
    ip: IpAddr,
    bits: u8,
    /// There are none.
    strict: bool,
}

fn lax(text: &str) -> Option<Lax> {
    let (ip, length) = text.split_once('/')?;
    let strict = ip.parse().ok();
    let lax = strict.or_else(|| with_leading_zeros(ip).map(IpAddr::V4))?;
    let longest = if lax.is_ipv4() { 32 } else { 128 };
    let bits = decimal(length).and_then(|bits| u8::try_from(bits).ok())?;
    (bits <= longest).then_some(Lax {
        ip: lax,
        bits,
        strict: strict.is_some() && (length == "0" || !length.starts_with('0')),
    })
}

/// Why nobody outside the machine can be meant by this address.
pub fn special(text: &str) -> Vec<String> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return vec!["must be a valid IP address".to_owned()];
    };
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (
            ip.is_unicast_link_local(),
            ip.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let found = [
        (
            ip.is_unspecified(),
            format!("may not be unspecified ({text})"),
        ),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            link_local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            link_local_multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    found
        .into_iter()
        .filter_map(|(is, why)| is.then_some(why))
        .collect()
}

/// `10.096.0.1`, which some software reads as octal.
fn with_leading_zeros(text: &str) -> Option<Ipv4Addr> {
    let octets: Vec<u8> = text
        .split('.')
        .map(|part| decimal(part).and_then(|number| u8::try_from(number).ok()))
        .collect::<Option<_>>()?;
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(octets.into())
}

fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, wrong) in [
            ("10.9.8.7", None),
            ("2001:DB8::1", None),
            ("10.9.8", Some(ADDRESS)),
            ("10.9.8.256", Some(ADDRESS)),
            ("fe80::1%eth0", Some(ADDRESS)),
            ("", Some(ADDRESS)),
            ("010.9.8.7", Some("must not have leading 0s")),
            (
                "::ffff:10.9.8.7",
                Some("must not be an IPv4-mapped IPv6 address"),
            ),
        ] {
            assert_eq!(address(text, [].into_iter()), wrong, "{text}");
            assert_eq!(address(text, [text].into_iter()), None, "{text} is known");
        }
    }

    #[test]
    fn networks() {
        let zeros = Some("must not have leading 0s in IP or prefix length");
        for (text, wrong) in [
            ("10.9.8.0/24", None),
            ("0.0.0.0/0", None),
            ("2001:db8::/64", None),
            ("10.9.8.0", Some(NETWORK)),
            ("10.9.8.0/33", Some(NETWORK)),
            ("10.9.8.0/+8", Some(NETWORK)),
            ("nowhere/8", Some(NETWORK)),
            ("010.9.8.0/24", zeros),
            ("10.9.8.0/024", zeros),
            (
                "::ffff:10.9.8.0/120",
                Some("must not have an IPv4-mapped IPv6 address"),
            ),
            (
                "10.9.8.7/24",
                Some("must not have bits set beyond the prefix length"),
            ),
        ] {
            assert_eq!(network(text, [].into_iter()), wrong, "{text}");
        }
    }

    #[test]
    fn addresses_that_mean_no_other_machine() {
        for (text, count) in [
            ("192.0.2.1", 0),
            ("2001:db8::1", 0),
            ("0.0.0.0", 1),
            ("::", 1),
            ("127.0.0.2", 1),
            ("::1", 1),
            ("169.254.3.4", 1),
            ("fe80::1", 1),
            ("224.0.0.251", 1),
            ("ff02::1", 1),
            ("224.0.1.1", 0),
        ] {
            assert_eq!(special(text).len(), count, "{text}: {:?}", special(text));
        }
    }
}

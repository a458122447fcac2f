//! The addresses that load balancers can have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::service::Family;

/// `192.0.2.0/28`, `192.0.2.1-192.0.2.9` or `192.0.2.1`. Of an IPv4 network the first and last address count too: it is
/// a part of the link's network, mostly. The first of an IPv6 network stands for its routers (RFC 4291, 2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("{0:?} is neither a network, FIRST-LAST nor an address")]
    Form(String),
    #[error("{first}-{last} does not go upwards within one address family")]
    Order { first: IpAddr, last: IpAddr },
    #[error("{0} has bits set beyond the prefix length")]
    Bits(IpNet),
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<AddressRange, RangeError> {
        let address = |text: &str| {
            let address = text.trim().parse::<IpAddr>();
            address.map_err(|_| RangeError::Form(text.to_owned()))
        };
        if text.contains('/') {
            let network: IpNet = text
                .trim()
                .parse()
                .map_err(|_| RangeError::Form(text.to_owned()))?;
            if network != network.trunc() {
                return Err(RangeError::Bits(network));
            }
            let first = match network {
                IpNet::V6(own) if own.prefix_len() < 127 => {
                    Ipv6Addr::from_bits(own.network().to_bits() + 1).into()
                }
                _ => network.network(),
            };
            return Ok(AddressRange {
                first,
                last: network.broadcast(),
            });
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None => (address(text)?, address(text)?),
        };
        if Family::of_ip(first) != Family::of_ip(last) || first > last {
            return Err(RangeError::Order { first, last });
        }
        Ok(AddressRange { first, last })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Pool(Vec<AddressRange>);

impl Pool {
    pub fn new(ranges: Vec<AddressRange>) -> Pool {
        Pool(ranges)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let family = Family::of_ip(address);
        let mut ranges = self.of(family);
        ranges.any(|range| (range.first..=range.last).contains(&address))
    }

    pub fn has(&self, family: Family) -> bool {
        self.of(family).next().is_some()
    }

    fn of(&self, family: Family) -> impl Iterator<Item = &AddressRange> {
        self.0
            .iter()
            .filter(move |range| Family::of_ip(range.first) == family)
    }

    /// The next free address behind `after`, and from the start again: one that was just freed, and that clients may
    /// still remember, is taken as late as possible.
    pub fn next_free(
        &self,
        family: Family,
        after: Option<IpAddr>,
        is_free: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let numbers = || {
            self.of(family)
                .map(|range| (number(range.first), number(range.last)))
        };
        let after = after.map(number);
        let behind = numbers().flat_map(|(first, last)| {
            let from = after.map_or(first, |after| first.max(after.saturating_add(1)));
            from..=last
        });
        let before = after.into_iter().flat_map(|after| {
            let numbers = numbers();
            numbers.flat_map(move |(first, last)| first..=last.min(after))
        });
        behind
            .chain(before)
            .map(|number| address(family, number))
            .find(|address| is_free(*address))
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match (family, u32::try_from(number)) {
        (Family::V4, Ok(number)) => Ipv4Addr::from_bits(number).into(),
        _ => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(text: &str) -> Pool {
        let ranges = text.split(',').map(|range| range.parse().expect("a range"));
        Pool::new(ranges.collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ranges_are_networks_spans_and_single_addresses() {
        for (text, shown) in [
            ("192.0.2.16/30", "192.0.2.16-192.0.2.19"),
            ("192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"),
            ("192.0.2.1 - 192.0.2.9", "192.0.2.1-192.0.2.9"),
            ("192.0.2.1", "192.0.2.1"),
            ("fd00::10/127", "fd00::10-fd00::11"),
            ("fd00::10/126", "fd00::11-fd00::13"),
        ] {
            let range: AddressRange = text.parse().expect("a range");
            assert_eq!(range.to_string(), shown, "{text}");
        }
        for text in [
            "",
            "192.0.2.9-192.0.2.1",
            "192.0.2.1-fd00::1",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.1-",
            "somewhere",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pool_knows_its_addresses() {
        let pool = pool("192.0.2.16/30,192.0.2.100,fd00::1-fd00::2");
        for (address, inside) in [
            ("192.0.2.15", false),
            ("192.0.2.16", true),
            ("192.0.2.19", true),
            ("192.0.2.20", false),
            ("192.0.2.100", true),
            ("fd00::2", true),
            ("fd00::3", false),
        ] {
            assert_eq!(pool.contains(ip(address)), inside, "{address}");
        }
        assert!(pool.has(Family::V6) && !self::pool("192.0.2.1").has(Family::V6));
    }

    #[test]
    fn the_next_free_address_is_behind_the_last_one_and_then_from_the_start() {
        let pool = pool("192.0.2.8-192.0.2.9,192.0.2.2,fd00::/64");
        let next = |after: Option<&str>, taken: &[&str]| {
            let free = pool.next_free(Family::V4, after.map(ip), |address| {
                !taken.iter().any(|own| ip(own) == address)
            });
            free.map(|address| address.to_string())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(next(None, &[]), some("192.0.2.8"));
        assert_eq!(next(Some("192.0.2.8"), &[]), some("192.0.2.9"));
        assert_eq!(next(Some("192.0.2.9"), &[]), some("192.0.2.8"));
        assert_eq!(next(Some("192.0.2.9"), &["192.0.2.8"]), some("192.0.2.9"));
        let most = ["192.0.2.8", "192.0.2.9"];
        assert_eq!(next(Some("192.0.2.9"), &most), some("192.0.2.2"));
        let all = ["192.0.2.8", "192.0.2.9", "192.0.2.2"];
        assert_eq!(next(Some("192.0.2.8"), &all), None);
        assert_eq!(
            pool.next_free(Family::V6, None, |address| address != ip("fd00::1")),
            Some(ip("fd00::2"))
        );
    }
}

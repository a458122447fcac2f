//! Addresses and ports that at most one service holds: one key a number, written with the service.

mod band;
mod holder;
mod pick;
mod under_way;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use vetch_server::Server;
use vetch_server::status::{Result, Status};
use vetch_store::{Cache, Object};

pub(super) use holder::Holder;
pub(super) use under_way::UnderWay;

/// Where reservations of ports live in etcd.
pub const PREFIX: &str = "/registry/ranges/";
/// Where those of addresses do: each is an IPAddress that everybody can read.
const ADDRESSES: &str = "/registry/ipaddresses/";

/// A range of numbers, counted from 0, each with a key in etcd.
#[derive(Clone)]
pub(super) struct Range {
    kind: Kind,
    size: u64,
    /// Below it explicit requests are likely; picks come from above as long as something is left there.
    dynamic: u64,
}

#[derive(Clone)]
enum Kind {
    Addresses(IpNet),
    Ports(RangeInclusive<u16>),
}

impl Range {
    /// The usable addresses of a network: neither its own nor the broadcast address.
    pub fn addresses(network: IpNet) -> Range {
        let host_bits = u32::from(network.max_prefix_len() - network.prefix_len());
        let all = 1_u128 << host_bits.min(64);
        let unused = match network {
            IpNet::V4(_) => 2,
            IpNet::V6(_) => 1,
        };
        let size = u64::try_from(all.saturating_sub(unused)).unwrap_or(u64::MAX);
        // The first address is `kubernetes`', even where there is no static band.
        let dynamic = band::addresses(u64::try_from(all).unwrap_or(u64::MAX)).max(1);
        Range::new(Kind::Addresses(network), size, dynamic)
    }

    pub fn ports(ports: RangeInclusive<u16>) -> Range {
        let size = u64::try_from(ports.len()).unwrap_or_default();
        Range::new(Kind::Ports(ports), size, band::ports(size))
    }

    fn new(kind: Kind, size: u64, dynamic: u64) -> Range {
        Range {
            kind,
            size,
            dynamic: dynamic.min(size),
        }
    }

    /// `IPv4`, `IPv6`; ports are of no family.
    pub fn family(&self) -> &'static str {
        match self.kind {
            Kind::Addresses(IpNet::V4(_)) => "IPv4",
            Kind::Addresses(IpNet::V6(_)) => "IPv6",
            Kind::Ports(_) => "",
        }
    }

    /// Is it the same network?
    pub fn is(&self, other: &IpNet) -> bool {
        matches!(&self.kind, Kind::Addresses(network) if network.trunc() == other.trunc())
    }

    /// `10.96.0.10`, `30080`.
    pub fn name(&self, index: u64) -> String {
        match &self.kind {
            Kind::Addresses(network) => address(network, index).to_string(),
            Kind::Ports(ports) => (u64::from(*ports.start()) + index).to_string(),
        }
    }

    pub fn key(&self, name: &str) -> String {
        match self.kind {
            Kind::Addresses(_) => Range::address_key(name),
            Kind::Ports(_) => format!("{PREFIX}servicenodeports/{name}"),
        }
    }

    /// The key of an address of any range, one that the cluster has no longer too.
    pub fn address_key(name: &str) -> String {
        format!("{ADDRESSES}{name}")
    }

    /// Is this name one of the range's?
    pub fn contains(&self, name: &str) -> bool {
        let index = match &self.kind {
            Kind::Addresses(network) => name.parse().ok().and_then(|ip| index_of(network, ip)),
            Kind::Ports(ports) => name
                .parse::<u64>()
                .ok()
                .and_then(|port| port.checked_sub(u64::from(*ports.start()))),
        };
        index.is_some_and(|index| index < self.size)
    }

    pub fn first(&self) -> String {
        self.name(0)
    }

    /// What is written for the one who holds this name.
    pub fn reservation(&self, name: &str, holder: &Holder<'_>) -> Value {
        match self.kind {
            Kind::Addresses(_) => holder.address(name, self.family()),
            Kind::Ports(_) => holder.port(),
        }
    }

    /// A number nobody is known to hold; `None`: all are taken.
    pub async fn pick(
        &self,
        server: &Server,
        under_way: &UnderWay,
        except: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Option<String>> {
        let prefix = match self.kind {
            Kind::Addresses(_) => ADDRESSES,
            Kind::Ports(_) => PREFIX,
        };
        let reserved = server
            .store
            .cache(prefix)
            .ok_or_else(|| Status::internal(format!("{prefix} is not cached")))?;
        if let Some(name) = self.pick_known(reserved, under_way, except, false) {
            return Ok(Some(name));
        }
        // Near exhaustion it counts what was written a moment ago, and what was picked but never written.
        let now = server.store.current_revision().await?;
        reserved.wait_for(now).await?;
        Ok(self.pick_known(reserved, under_way, except, true))
    }

    fn pick_known(
        &self,
        reserved: &Cache,
        under_way: &UnderWay,
        except: &(dyn Fn(&str) -> bool + Sync),
        again: bool,
    ) -> Option<String> {
        // The first address is only given to who asks for it.
        let lowest = match self.kind {
            Kind::Addresses(_) => 1,
            Kind::Ports(_) => 0,
        };
        let free = |index: u64| {
            let name = self.name(index);
            index >= lowest && reserved.get(&self.key(&name)).is_none() && !except(&name)
        };
        let mut random = rand::rng();
        let bounds = (self.size, self.dynamic);
        let mut picked = under_way.lock();
        let index = pick::pick(bounds, &mut random, |index| {
            free(index) && !picked.contains(&self.key(&self.name(index)))
        })
        .or_else(|| match again {
            true => pick::pick(bounds, &mut random, free),
            false => None,
        })?;
        let name = self.name(index);
        picked.insert(self.key(&name));
        Some(name)
    }

    /// The reservation of this name, as etcd has it now.
    pub async fn found(&self, server: &Server, name: &str) -> Result<Option<Arc<Object>>> {
        Ok(server.store.get(&self.key(name)).await?)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            Kind::Addresses(network) => write!(f, "{}", network.trunc()),
            Kind::Ports(ports) => write!(f, "{}-{}", ports.start(), ports.end()),
        }
    }
}

fn address(network: &IpNet, index: u64) -> IpAddr {
    match network.network() {
        IpAddr::V4(base) => {
            // A V4 range has at most 2^32 - 2 numbers, so this neither cuts nor wraps.
            let offset = u32::try_from(index + 1).unwrap_or(u32::MAX);
            Ipv4Addr::from_bits(base.to_bits().saturating_add(offset)).into()
        }
        IpAddr::V6(base) => {
            Ipv6Addr::from_bits(base.to_bits().saturating_add(u128::from(index) + 1)).into()
        }
    }
}

fn index_of(network: &IpNet, ip: IpAddr) -> Option<u64> {
    let offset = match (network.network(), ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            u128::from(ip.to_bits()).checked_sub(u128::from(base.to_bits()))
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => ip.to_bits().checked_sub(base.to_bits()),
        _ => None,
    };
    u64::try_from(offset?.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_neither_its_own_nor_the_broadcast_address() {
        let range = Range::addresses("10.96.0.0/24".parse().unwrap());
        assert_eq!((range.size, range.dynamic), (254, 16));
        assert_eq!(range.first(), "10.96.0.1");
        assert_eq!(range.name(253), "10.96.0.254");
        assert_eq!(range.key("10.96.0.9"), "/registry/ipaddresses/10.96.0.9");
        assert_eq!(range.to_string(), "10.96.0.0/24");
        for (name, inside) in [
            ("10.96.0.0", false),
            ("10.96.0.1", true),
            ("10.96.0.254", true),
            ("10.96.0.255", false),
            ("10.95.255.255", false),
            ("fd00::1", false),
            ("None", false),
        ] {
            assert_eq!(range.contains(name), inside, "{name}");
        }
    }

    #[test]
    fn addresses_are_kept_where_their_kind_is() {
        let row = &vetch_api::kinds::ip_address::ROW;
        assert_eq!(ADDRESSES, vetch_server::request::storage_prefix(row));
    }

    #[test]
    fn networks_of_the_other_family_are_counted_too() {
        let range = Range::addresses("fd00::/64".parse().unwrap());
        assert_eq!(range.first(), "fd00::1");
        assert!(range.contains("fd00::ffff:ffff"));
        assert!(!range.contains("fd01::1"));
    }

    #[test]
    fn ports_are_inclusive() {
        let range = Range::ports(30000..=32767);
        assert_eq!((range.size, range.dynamic), (2768, 86));
        assert_eq!(
            (range.name(0), range.name(2767)),
            ("30000".into(), "32767".into())
        );
        for (name, inside) in [
            ("29999", false),
            ("30000", true),
            ("32767", true),
            ("32768", false),
        ] {
            assert_eq!(range.contains(name), inside, "{name}");
        }
    }
}

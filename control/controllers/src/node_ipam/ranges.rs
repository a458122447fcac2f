//! The pod ranges that one network can be cut into, and which of them are taken.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// More ranges than any cluster has nodes; numbers stay small.
const MAX_BITS: u8 = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    network: IpNet,
    mask: u8,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    #[error("pods have one network, or two of different address families")]
    Families,
    #[error(
        "with two pod networks each family has a prefix length of its own: --node-cidr-mask-size-ipv4 and \
         --node-cidr-mask-size-ipv6"
    )]
    OneMask,
    #[error("node mask size {mask} does not cut the pod network {network}: it must be between {} and {}", network.prefix_len(), network.max_prefix_len())]
    Mask { network: IpNet, mask: u8 },
    #[error(
        "node mask size {mask} cuts the pod network {network} into more than 2^{MAX_BITS} ranges"
    )]
    TooMany { network: IpNet, mask: u8 },
}

impl Ranges {
    pub fn new(network: IpNet, mask: u8) -> Result<Ranges, RangesError> {
        let network = network.trunc();
        if mask < network.prefix_len() || mask > network.max_prefix_len() {
            return Err(RangesError::Mask { network, mask });
        }
        if mask - network.prefix_len() > MAX_BITS {
            return Err(RangesError::TooMany { network, mask });
        }
        Ok(Ranges { network, mask })
    }

    pub fn count(&self) -> u32 {
        1 << (self.mask - self.network.prefix_len())
    }

    fn shift(&self) -> u8 {
        self.network.max_prefix_len() - self.mask
    }

    /// The range of this number.
    pub fn get(&self, number: u32) -> Option<IpNet> {
        if number >= self.count() {
            return None;
        }
        let offset = u128::from(number) << self.shift();
        let address = match self.network.network() {
            IpAddr::V4(base) => {
                let offset = u32::try_from(offset).ok()?;
                IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() | offset))
            }
            IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | offset)),
        };
        IpNet::new(address, self.mask).ok()
    }

    /// The numbers of all ranges that `taken` overlaps.
    fn numbers(&self, taken: IpNet) -> std::ops::Range<u32> {
        if self.network.contains(&taken) || taken.contains(&self.network) {
            let number = |address: IpAddr| self.number(address);
            let first = number(taken.network()).unwrap_or(0);
            let last = number(taken.broadcast()).unwrap_or(self.count() - 1);
            return first..last + 1;
        }
        0..0
    }

    fn number(&self, address: IpAddr) -> Option<u32> {
        if !self.network.contains(&address) {
            return None;
        }
        let offset = match (address, self.network.network()) {
            (IpAddr::V4(own), IpAddr::V4(base)) => u128::from(own.to_bits() - base.to_bits()),
            (IpAddr::V6(own), IpAddr::V6(base)) => own.to_bits() - base.to_bits(),
            _ => return None,
        };
        u32::try_from(offset >> self.shift()).ok()
    }

    /// The first free range at or after `cursor`, and its number; None: all are taken.
    pub fn free(
        &self,
        taken: impl IntoIterator<Item = IpNet>,
        cursor: u32,
    ) -> Option<(u32, IpNet)> {
        let used: BTreeSet<u32> = taken
            .into_iter()
            .flat_map(|taken| self.numbers(taken))
            .collect();
        let count = self.count();
        let number = (0..count)
            .map(|step| (u64::from(cursor) + u64::from(step)) % u64::from(count))
            .filter_map(|number| u32::try_from(number).ok())
            .find(|number| !used.contains(number))?;
        Some((number, self.get(number)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn ranges_of_a_network() {
        let ranges = Ranges::new(net("10.244.0.0/16"), 24).expect("ranges");
        assert_eq!(ranges.count(), 256);
        assert_eq!(ranges.get(0), Some(net("10.244.0.0/24")));
        assert_eq!(ranges.get(255), Some(net("10.244.255.0/24")));
        assert_eq!(ranges.get(256), None);
        let v6 = Ranges::new(net("fd00:1::/48"), 64).expect("ranges");
        assert_eq!(v6.get(0x12), Some(net("fd00:1:0:12::/64")));
        let whole = Ranges::new(net("10.0.0.0/24"), 24).expect("ranges");
        assert_eq!((whole.count(), whole.get(0)), (1, Some(net("10.0.0.0/24"))));
    }

    #[test]
    fn masks_that_do_not_fit() {
        for (network, mask) in [
            ("10.244.0.0/16", 15),
            ("10.244.0.0/16", 33),
            ("fd00::/16", 64),
        ] {
            assert!(Ranges::new(net(network), mask).is_err(), "{network} {mask}");
        }
    }

    #[test]
    fn a_free_range_overlaps_nothing() {
        let ranges = Ranges::new(net("10.244.0.0/22"), 24).expect("ranges");
        for (taken, cursor, wanted) in [
            (vec![], 0, Some("10.244.0.0/24")),
            (vec![], 3, Some("10.244.3.0/24")),
            (
                vec!["10.244.0.0/24", "10.244.1.0/24"],
                0,
                Some("10.244.2.0/24"),
            ),
            (vec!["10.244.3.0/24"], 3, Some("10.244.0.0/24")),
            // Set by hand: larger, smaller, elsewhere.
            (vec!["10.244.0.0/23"], 0, Some("10.244.2.0/24")),
            (vec!["10.244.0.128/25"], 0, Some("10.244.1.0/24")),
            (
                vec!["192.168.0.0/24", "fd00::/64"],
                0,
                Some("10.244.0.0/24"),
            ),
            (vec!["10.0.0.0/8"], 0, None),
            (
                vec!["10.244.0.0/23", "10.244.2.0/24", "10.244.3.0/24"],
                1,
                None,
            ),
        ] {
            let nets: Vec<IpNet> = taken.iter().map(|text| net(text)).collect();
            let free = ranges.free(nets, cursor).map(|(_, range)| range);
            assert_eq!(free, wanted.map(net), "{taken:?} {cursor}");
        }
    }
}

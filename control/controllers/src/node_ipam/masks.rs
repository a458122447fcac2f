//! How large a node's range is, by kube-controller-manager's rules of its three flags.

use ipnet::IpNet;

use super::ranges::{Ranges, RangesError};

/// Prefix lengths of nodes' ranges, as far as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMasks {
    /// Of a single network, whatever its family.
    pub any: Option<u8>,
    /// 24 where nothing is said.
    pub ipv4: Option<u8>,
    /// 64 where nothing is said.
    pub ipv6: Option<u8>,
}

impl NodeMasks {
    /// Each network cut into ranges.
    ///
    /// # Errors
    /// Where there is not one network, nor two of different families, or a prefix length does not cut one.
    pub fn ranges(&self, networks: &[IpNet]) -> Result<Vec<Ranges>, RangesError> {
        let is_v4 = |network: &IpNet| network.addr().is_ipv4();
        match networks {
            [_] => {}
            [one, other] if is_v4(one) != is_v4(other) => {}
            _ => return Err(RangesError::Families),
        }
        if networks.len() > 1 && self.any.is_some() {
            return Err(RangesError::OneMask);
        }
        let ranges = networks.iter().map(|network| {
            let (own, usual) = match network {
                IpNet::V4(_) => (self.ipv4, 24),
                IpNet::V6(_) => (self.ipv6, 64),
            };
            Ranges::new(*network, self.any.or(own).unwrap_or(usual))
        });
        ranges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_a_family() {
        let masks = |any, ipv4, ipv6| NodeMasks { any, ipv4, ipv6 };
        let none = NodeMasks::default();
        let (v4, v6) = ("10.244.0.0/16", "fd00:1::/56");
        for (networks, masks, first) in [
            (vec![v4], none, Ok(vec!["10.244.0.0/24"])),
            (vec![v6], none, Ok(vec!["fd00:1::/64"])),
            (vec![v4, v6], none, Ok(vec!["10.244.0.0/24", "fd00:1::/64"])),
            (vec![v6, v4], none, Ok(vec!["fd00:1::/64", "10.244.0.0/24"])),
            (
                vec![v4],
                masks(Some(26), None, None),
                Ok(vec!["10.244.0.0/26"]),
            ),
            (
                vec![v6],
                masks(Some(60), None, None),
                Ok(vec!["fd00:1::/60"]),
            ),
            (
                vec![v4, v6],
                masks(None, Some(25), Some(60)),
                Ok(vec!["10.244.0.0/25", "fd00:1::/60"]),
            ),
            (
                vec![v4, v6],
                masks(Some(24), None, None),
                Err("a prefix length of its own"),
            ),
            (vec![v4, v4], none, Err("one network, or two")),
            (vec![v4, v6, v4], none, Err("one network, or two")),
            (vec![], none, Err("one network, or two")),
            (
                vec![v6],
                masks(None, None, Some(48)),
                Err("does not cut the pod network"),
            ),
        ] {
            let parsed: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
            let found = masks.ranges(&parsed);
            match first {
                Ok(first) => {
                    let ranges = found.unwrap();
                    let ranges: Vec<String> = ranges
                        .iter()
                        .filter_map(|ranges| ranges.get(0))
                        .map(|range| range.to_string())
                        .collect();
                    assert_eq!(ranges, first, "{networks:?} {masks:?}");
                }
                Err(words) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(words), "{networks:?} {masks:?}: {error}");
                }
            }
        }
    }
}

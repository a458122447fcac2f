//! Conversations of pods with hosts outside the cluster, as far as they have to be ended: nobody
//! answers to an address that its node has given away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use aya::maps::{HashMap, Map, MapData, MapError};
use vetch_ebpf_common::{Direction, Flow, Sources, Tuple, maps};

use super::{MapsError, gone, open_error, pinned, read_error, write_error};

#[derive(Debug)]
pub struct Outside {
    table: HashMap<MapData, Tuple, Flow>,
    /// As whom pods were seen last, by uplink and whether it is IPv4.
    seen_as: BTreeMap<(u32, bool), IpAddr>,
}

impl Outside {
    pub fn open(dir: &Path) -> Result<Self, MapsError> {
        Ok(Self {
            table: HashMap::try_from(Map::LruHashMap(pinned(dir, maps::FLOWS)?))
                .map_err(open_error(maps::FLOWS))?,
            seen_as: BTreeMap::new(),
        })
    }

    /// What goes on under an address that another has followed at its uplink begins anew, under
    /// that. One that is only missing may come back, as with a cable.
    pub fn follow(
        &mut self,
        sources: &BTreeMap<u32, Sources>,
        is_own: impl Fn(&IpAddr) -> bool,
    ) -> Result<(), MapsError> {
        let lost = lost(&mut self.seen_as, sources, is_own);
        if lost.is_empty() {
            return Ok(());
        }
        let mut over = Vec::new();
        for entry in self.table.iter() {
            match entry {
                // Dropped by the kernel while we read.
                Err(MapError::KeyNotFound) => {}
                entry => {
                    let (key, flow) = entry.map_err(read_error(maps::FLOWS))?;
                    if seen_as(&key, &flow).is_some_and(|ip| lost.contains(&ip)) {
                        over.push(key);
                    }
                }
            }
        }
        for key in over {
            gone(self.table.remove(&key)).map_err(write_error(maps::FLOWS, "an old address"))?;
        }
        Ok(())
    }
}

/// The addresses that others have followed, and that are the node's no more.
fn lost(
    before: &mut BTreeMap<(u32, bool), IpAddr>,
    sources: &BTreeMap<u32, Sources>,
    is_own: impl Fn(&IpAddr) -> bool,
) -> BTreeSet<IpAddr> {
    let mut lost = BTreeSet::new();
    for (ifindex, own) in sources {
        for v4 in [true, false] {
            if let Some(now) = own.of(v4).map(IpAddr::from) {
                lost.extend(before.insert((*ifindex, v4), now).filter(|ip| *ip != now));
            }
        }
    }
    lost.retain(|ip| !is_own(ip));
    lost
}

/// Either half of a pod's knows.
fn seen_as(key: &Tuple, flow: &Flow) -> Option<IpAddr> {
    let address = match flow.direction() {
        Direction::Original => flow.to.src,
        Direction::Reply => key.dst,
    };
    flow.is_outside().then(|| address.into())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use vetch_ebpf_common::{Endpoint, Event};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_lost_to_another() {
        let own = |addresses: &[&str]| {
            let all = addresses.iter().map(|address| ip(address).into());
            BTreeMap::from([(7, all.fold(Sources::NONE, Sources::with))])
        };
        let (a, b, six) = ("192.0.2.1", "192.0.2.2", "fd00::1");
        let mut before = BTreeMap::new();
        let steps: [(&str, &[&str], &[&str], &[&str]); 7] = [
            ("the first", &[a, six], &[a, six], &[]),
            ("the same", &[a, six], &[a, six], &[]),
            ("missing", &[], &[], &[]),
            ("back", &[a, six], &[a, six], &[]),
            ("missing and followed", &[b, six], &[b, six], &[a]),
            ("followed, and still there", &[a, six], &[a, b, six], &[]),
            (
                "of the other family",
                &[a, "fd00::2"],
                &[a, "fd00::2"],
                &[six],
            ),
        ];
        for (what, sources, node, expected) in steps {
            let node: BTreeSet<IpAddr> = node.iter().map(|address| ip(address)).collect();
            let lost = lost(&mut before, &own(sources), |ip| node.contains(ip));
            let expected = expected.iter().map(|address| ip(address)).collect();
            assert_eq!(lost, expected, "{what}");
        }
    }

    #[test]
    fn whose_flow_it_is() {
        let tuple = |src: &str, dst: &str| {
            let end = |text: &str| {
                let place: SocketAddr = text.parse().unwrap();
                Endpoint::new(place.ip().into(), place.port().to_be_bytes())
            };
            Tuple::new(end(src), end(dst), 17)
        };
        let key = tuple("10.1.0.1:40000", "203.0.113.7:53");
        let to = tuple("192.0.2.1:61000", "203.0.113.7:53");
        let mut flow = Flow::new(to, Event::NO_SERVICE, 0, 0, 0);
        assert_eq!(seen_as(&key, &flow), None, "a service's");
        flow.cross_border();
        let (twin_key, twin) = flow.twin(&key);
        assert_eq!(seen_as(&key, &flow), Some(ip("192.0.2.1")));
        assert_eq!(seen_as(&twin_key, &twin), Some(ip("192.0.2.1")));
    }
}

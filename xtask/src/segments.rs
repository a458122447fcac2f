//! The links that a cluster's nodes are on: one, or several with a router in between, each with
//! a part of the nodes' network of its own.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::plan::{machine_address, node_address};

/// The parts of a network, as many as there are links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    subnet: Ipv4Net,
    count: u32,
}

/// In several parts each has the network's and the broadcast address, the machine's in the first,
/// and the router's.
const RESERVED: u64 = 4;

impl Segments {
    pub fn new(subnet: Ipv4Net, count: u32) -> Segments {
        Segments {
            subnet,
            count: count.max(1),
        }
    }

    pub fn count(self) -> u32 {
        self.count
    }

    /// `segment` starts at 0.
    pub fn network(self, segment: u32) -> Ipv4Net {
        let prefix = self.prefix();
        let size = 1_u64 << (32 - u32::from(prefix));
        let start = u64::from(u32::from(self.subnet.network())) + size * u64::from(segment);
        let start = Ipv4Addr::from(u32::try_from(start).unwrap_or(u32::MAX));
        Ipv4Net::new_assert(start, prefix).trunc()
    }

    fn prefix(self) -> u8 {
        let bits = self.count.next_power_of_two().trailing_zeros();
        let prefix = u32::from(self.subnet.prefix_len()) + bits;
        u8::try_from(prefix.min(32)).unwrap_or(32)
    }

    /// By whom the others are reached; None where there are no others.
    pub fn router(self, segment: u32) -> Option<Ipv4Addr> {
        let last = u32::from(self.network(segment).broadcast()).saturating_sub(1);
        (self.count > 1).then(|| last.into())
    }

    /// Nodes take their turns. `number` starts at 1.
    pub fn of_node(self, number: u32) -> u32 {
        number.saturating_sub(1) % self.count
    }

    pub fn node_address(self, number: u32) -> Ipv4Addr {
        let turn = number.saturating_sub(1) / self.count + 1;
        node_address(self.network(self.of_node(number)), turn)
    }

    pub fn machine_address(self) -> Ipv4Addr {
        machine_address(self.network(0))
    }

    /// How many nodes there is room for.
    pub fn room(self) -> u32 {
        let size = 1_u64 << (32 - u32::from(self.prefix()));
        let room = match self.count {
            // Without the network's, the broadcast and the machine's address.
            1 => size.saturating_sub(3),
            count => size.saturating_sub(RESERVED) * u64::from(count),
        };
        u32::try_from(room).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(count: u32) -> Segments {
        Segments::new("172.30.0.0/24".parse().unwrap(), count)
    }

    #[test]
    fn one_link_is_as_ever() {
        let one = segments(1);
        assert_eq!(one.network(0).to_string(), "172.30.0.0/24");
        assert_eq!(one.router(0), None);
        assert_eq!(one.machine_address().to_string(), "172.30.0.1");
        assert_eq!(one.node_address(3).to_string(), "172.30.0.4");
        assert_eq!(one.room(), 253);
    }

    #[test]
    fn nodes_take_turns_on_several() {
        let two = segments(2);
        let networks = [0, 1].map(|segment| two.network(segment).to_string());
        assert_eq!(networks, ["172.30.0.0/25", "172.30.0.128/25"]);
        let routers = [0, 1].map(|segment| two.router(segment).unwrap().to_string());
        assert_eq!(routers, ["172.30.0.126", "172.30.0.254"]);
        let nodes = [1, 2, 3].map(|number| two.node_address(number).to_string());
        assert_eq!(nodes, ["172.30.0.2", "172.30.0.130", "172.30.0.3"]);
        assert_eq!(two.room(), 248);
        // Of three parts one is nobody's.
        let three = segments(3);
        assert_eq!(three.network(2).to_string(), "172.30.0.128/26");
        assert_eq!(three.room(), 3 * 60);
    }

    #[test]
    fn a_network_may_be_too_small() {
        let tiny = Segments::new("172.30.0.0/30".parse().unwrap(), 4);
        assert_eq!(tiny.room(), 0);
    }
}

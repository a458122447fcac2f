//! What would become of a conversation's first packet, hop by hop and why: decided over
//! what the maps and the routes say, in the order in which the programs decide it. Pure;
//! [`read`] has the edge.
//!
//! `ebpf/programs` is what this follows: `redirect` for calls, `from_pod`, `from_net` and
//! `to_net` for packets, `forward` for where these go. Rules, lists and slots are asked by
//! the functions that the programs use.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;
use vetch_ebpf_common::{Address, From, Pod, Protocol, Reason, addresses};

use crate::{
    diff::Pointer,
    model::{Frontend, protocol_name},
};

mod choice;
mod journey;
mod policy;
pub mod read;
mod snapshot;
#[cfg(test)]
mod tests;
mod way;

use choice::{Chosen, Found};
pub use journey::{Hop, Outcome, Way};
use journey::{Journey, Packet, Sender};
pub use snapshot::{Route, Snapshot};

/// A new conversation's first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub what: Opening,
}

/// With what it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// TCP's SYN, a datagram, SCTP's INIT.
    Port(Protocol, u16),
    /// An ICMP echo request.
    Ping,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub port: Option<u16>,
    /// `TCP`, `UDP`, `SCTP` or `ICMP`.
    pub protocol: &'static str,
    /// Whatever is chosen.
    pub hops: Vec<Hop>,
    /// What comes then, for each backend that may be chosen; of what is for no service
    /// one.
    pub ways: Vec<Way>,
}

impl Question {
    /// By its IP number.
    fn protocol(&self) -> u8 {
        const ICMP: u8 = 1;
        const ICMPV6: u8 = 58;
        match self.what {
            Opening::Port(protocol, _) => protocol as u8,
            Opening::Ping if self.dst.is_ipv4() => ICMP,
            Opening::Ping => ICMPV6,
        }
    }

    fn port(&self) -> u16 {
        match self.what {
            Opening::Port(_, port) => port,
            Opening::Ping => 0,
        }
    }

    /// None of a ping, which is for no service.
    fn frontend(&self) -> Option<Frontend> {
        match self.what {
            Opening::Port(protocol, port) => Some(Frontend {
                addr: self.dst,
                port,
                protocol,
            }),
            Opening::Ping => None,
        }
    }

    /// SCTP's associations are balanced by the packet.
    fn has_calls(&self) -> bool {
        matches!(self.what, Opening::Port(Protocol::Tcp | Protocol::Udp, _))
    }

    fn packet(&self) -> Packet {
        Packet {
            src: self.src,
            dst: SocketAddr::new(self.dst, self.port()),
        }
    }
}

/// Whose addresses' routes [`trace`] will ask for.
pub fn destinations(maps: &Snapshot, asked: &Question) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::from([asked.dst]);
    for is_node in [false, true] {
        if let Found::Frontend(to) = maps.find(asked.frontend(), is_node)
            && let Some(target) = maps.services.services.get(&to.service)
        {
            let backends = target.cluster.iter().chain(&target.local);
            all.extend(backends.map(|backend| backend.addr));
        }
    }
    all
}

pub fn trace(maps: &Snapshot, asked: &Question) -> Trace {
    let (hops, ways) = Tracer { maps, asked }.run();
    Trace {
        source: asked.src,
        destination: asked.dst,
        port: match asked.what {
            Opening::Port(_, port) => Some(port),
            Opening::Ping => None,
        },
        protocol: match asked.what {
            Opening::Port(protocol, _) => protocol_name(protocol),
            Opening::Ping => "ICMP",
        },
        hops,
        ways,
    }
}

type Ways = (Vec<Hop>, Vec<Way>);

struct Tracer<'a> {
    maps: &'a Snapshot,
    asked: &'a Question,
}

impl Tracer<'_> {
    fn run(&self) -> Ways {
        let (maps, src) = (self.maps, self.asked.src);
        if let Some(pod) = maps.pods.get(&src) {
            return self.from_pod(pod);
        }
        if maps.is(src, addresses::NODE) || src.is_loopback() {
            return self.from_node();
        }
        self.from_net()
    }

    fn from_pod(&self, pod: &Pod) -> Ways {
        let (maps, asked) = (self.maps, self.asked);
        let link = maps.link(pod.ifindex);
        let start = Journey::at(
            "pod",
            format!("{} is a pod of this node, behind {link}", asked.src),
        );
        if asked.dst == asked.src || asked.dst.is_loopback() {
            return one(start.delivered("pod", "its own address: the packet stays in the pod"));
        }
        if !asked.has_calls() {
            return self.pods_packet(start, pod);
        }
        let to = match maps.find(asked.frontend(), false) {
            Found::NotAService => return self.pods_packet(start, pod),
            Found::UnknownPort => {
                return one(start.fails("connect", Reason::UnknownPort, UNKNOWN_PORT));
            }
            Found::Frontend(to) => to,
        };
        let by_packet = if asked.protocol() == Protocol::Udp as u8 {
            Pod::UDP_BY_PACKET
        } else {
            Pod::TCP_BY_PACKET
        };
        if pod.flags & by_packet != 0 || to.exposure.source_ranges {
            return self.pods_packet(start, pod);
        }
        let client = Address::from_words([pod.netns, 0]);
        let (start, backends) = match maps.choose(&to, From::Inside, client, None) {
            Chosen::Of(why, backends) => (start.hop("connect", why), backends),
            Chosen::NoEndpoints => {
                return one(start.fails("connect", Reason::NoEndpoints, NO_ENDPOINTS));
            }
            Chosen::NoLocalEndpoints => {
                let start = start.hop("connect", "no endpoint here: the call is left as it is");
                return one(start.fails("from_pod", Reason::NoLocalEndpoints, NO_LOCAL));
            }
        };
        let way = |backend: &choice::Candidate| {
            let packet = Packet {
                src: asked.src,
                dst: backend.address,
            };
            let own = Journey::default();
            let way = if backend.address.ip() == asked.src {
                own.delivered("pod", "the pod itself: the packet stays in it")
            } else {
                self.pods_packet_to(own, pod, packet)
            };
            way.to(backend)
        };
        (start.hops, backends.iter().map(way).collect())
    }

    /// At its link, for a service or not.
    fn pods_packet(&self, start: Journey, pod: &Pod) -> Ways {
        let (maps, asked) = (self.maps, self.asked);
        let packet = asked.packet();
        if maps.pods.contains_key(&asked.dst) {
            return one(self.pods_packet_to(start, pod, packet));
        }
        let to = match maps.find(asked.frontend(), false) {
            Found::NotAService => return one(self.pods_packet_to(start, pod, packet)),
            Found::UnknownPort => {
                return one(start.fails("from_pod", Reason::UnknownPort, UNKNOWN_PORT));
            }
            Found::Frontend(to) => to,
        };
        self.balanced(start, "from_pod", &to, From::Inside, |own, backend| {
            // A pod that reached itself would answer itself.
            let src = if backend.address.ip() == asked.src {
                maps.node_address(asked.src)
            } else {
                asked.src
            };
            let packet = Packet {
                src,
                dst: backend.address,
            };
            let judged = match policy::judge(maps, Some(pod), asked.protocol(), &packet) {
                Ok(hops) => own.seen_as(asked.src, src).and("from_pod", hops),
                Err(refusal) => return own.turned_away("from_pod", refusal),
            };
            match maps.pods.get(&packet.dst.ip()) {
                Some(receiver) => way::into(maps, judged, &Sender::Pod(pod), receiver),
                None => way::by_stack(maps, judged, &Sender::Pod(pod), asked, packet),
            }
        })
    }

    /// To no service.
    fn pods_packet_to(&self, start: Journey, pod: &Pod, packet: Packet) -> Way {
        let (maps, sender) = (self.maps, Sender::Pod(pod));
        let judged = match policy::judge(maps, Some(pod), self.asked.protocol(), &packet) {
            Ok(hops) => start.and("from_pod", hops),
            Err(refusal) => return start.turned_away("from_pod", refusal),
        };
        if let Some(receiver) = maps.pods.get(&packet.dst.ip()) {
            return way::into(maps, judged, &sender, receiver);
        }
        match maps.peer(packet.dst.ip()) {
            Some(peer) if peer.link != 0 && pod.flags & Pod::BY_STACK == 0 => {
                way::to_peer(maps, judged, "from_pod", peer)
            }
            _ => way::by_stack(maps, judged, &sender, self.asked, packet),
        }
    }

    fn from_node(&self) -> Ways {
        let (maps, asked) = (self.maps, self.asked);
        let packet = asked.packet();
        let start = Journey::at("node", format!("{} is the node itself", asked.src));
        if !asked.has_calls() {
            return self.nodes_packet(start, packet);
        }
        let to = match maps.find(asked.frontend(), true) {
            Found::NotAService => {
                return one(way::by_stack(maps, start, &Sender::Node, asked, packet));
            }
            Found::UnknownPort => {
                return one(start.fails("connect", Reason::UnknownPort, UNKNOWN_PORT));
            }
            Found::Frontend(to) => to,
        };
        if to.exposure.source_ranges && !maps.in_ranges(&to, maps.node_address(asked.dst)) {
            return self.nodes_packet(start, packet);
        }
        let client = Address::from_words([maps.node_netns, 0]);
        match maps.choose(&to, From::Inside, client, None) {
            Chosen::NoEndpoints => one(start.fails("connect", Reason::NoEndpoints, NO_ENDPOINTS)),
            Chosen::NoLocalEndpoints => {
                let start = start.hop("connect", "no endpoint here: the call is left as it is");
                self.nodes_packet(start, packet)
            }
            Chosen::Of(why, backends) => {
                let start = start.hop("connect", why);
                let way = |backend: &choice::Candidate| {
                    let packet = Packet {
                        src: asked.src,
                        dst: backend.address,
                    };
                    way::by_stack(maps, Journey::default(), &Sender::Node, asked, packet)
                        .to(backend)
                };
                (start.hops, backends.iter().map(way).collect())
            }
        }
    }

    /// What no hook at the socket has changed; at an uplink a service's address is looked
    /// at once more.
    fn nodes_packet(&self, start: Journey, packet: Packet) -> Ways {
        let (maps, asked) = (self.maps, self.asked);
        let uplink = maps.uplink_to(packet.dst.ip());
        let Some(uplink) = uplink.filter(|_| maps.is(asked.dst, addresses::SERVICE)) else {
            return one(way::by_stack(maps, start, &Sender::Node, asked, packet));
        };
        let to = match maps.find(asked.frontend(), false) {
            Found::NotAService => {
                return one(way::by_stack(maps, start, &Sender::Node, asked, packet));
            }
            // The socket hook has told it what there was to tell.
            Found::UnknownPort => {
                let dropped = start.dropped("to_net", Reason::UnknownPort, UNKNOWN_PORT);
                return one(dropped);
            }
            Found::Frontend(to) => to,
        };
        self.balanced(
            start,
            "to_net",
            &to,
            From::Inside,
            |own, backend| match maps.pods.get(&backend.address.ip()) {
                Some(receiver) => way::into(maps, own, &Sender::Node, receiver),
                None => own.leaves(
                    "to_net",
                    format!(
                        "by {}, to the neighbour that its routes name",
                        maps.link(uplink)
                    ),
                ),
            },
        )
    }

    fn from_net(&self) -> Ways {
        let (maps, asked) = (self.maps, self.asked);
        let peer = maps.peer(asked.src);
        let tunnel = peer.filter(|peer| peer.are_in_tunnel());
        let who = if peer.is_some() {
            "a pod of another node"
        } else if maps.is(asked.src, addresses::PEER) {
            "another node"
        } else {
            "outside the cluster"
        };
        let (sender, by) = match tunnel {
            Some(peer) => {
                let by = format!("in VXLAN, by {}", maps.link(peer.link));
                (Sender::Tunnel, by)
            }
            None => (Sender::Uplink, "by an uplink".to_owned()),
        };
        let start = Journey::at(
            sender.hook(),
            format!("{} is {who}: it comes {by}", asked.src),
        );
        let packet = asked.packet();
        if let Some(receiver) = maps.pods.get(&asked.dst) {
            let judged = match policy::judge(maps, None, asked.protocol(), &packet) {
                Ok(hops) => start.and(sender.hook(), hops),
                Err(refusal) => return one(start.turned_away(sender.hook(), refusal)),
            };
            return one(way::into(maps, judged, &sender, receiver));
        }
        let to = match maps.find(asked.frontend(), false) {
            Found::NotAService => {
                return one(way::by_stack(maps, start, &sender, asked, packet));
            }
            Found::UnknownPort => {
                return one(start.fails(sender.hook(), Reason::UnknownPort, UNKNOWN_PORT));
            }
            Found::Frontend(to) => to,
        };
        self.balanced(start, sender.hook(), &to, From::Outside, |own, backend| {
            self.sent_on(own, &sender, backend.address)
        })
    }

    /// From the network to a backend.
    fn sent_on(&self, own: Journey, sender: &Sender<'_>, backend: SocketAddr) -> Way {
        let (maps, asked) = (self.maps, self.asked);
        if self.goes_directly(sender, backend.ip()) {
            return own.leaves(
                sender.hook(),
                "to the backend's node as it came, in IP in IP; that node answers the client itself",
            );
        }
        let here = maps.pods.contains_key(&backend.ip()) || maps.is(backend.ip(), addresses::NODE);
        let src = if here {
            asked.src
        } else {
            maps.node_address(asked.src)
        };
        let packet = Packet { src, dst: backend };
        let judged = match policy::judge(maps, None, asked.protocol(), &packet) {
            Ok(hops) => own.seen_as(asked.src, src).and(sender.hook(), hops),
            Err(refusal) => return own.turned_away(sender.hook(), refusal),
        };
        if let Some(receiver) = maps.pods.get(&backend.ip()) {
            return way::into(maps, judged, sender, receiver);
        }
        let link = match (sender, maps.peer(backend.ip())) {
            (Sender::Uplink, _) if here => 0,
            (Sender::Uplink, Some(peer)) if peer.are_in_tunnel() => peer.link,
            (Sender::Uplink, _) => maps.loaded.settings.link,
            // The stack's, which loses nothing of what the device says of it.
            _ => 0,
        };
        if link == 0 {
            return way::by_stack(maps, judged, sender, asked, packet);
        }
        let text = format!(
            "by {}, to the neighbour that its routes name",
            maps.link(link)
        );
        judged.leaves(sender.hook(), text)
    }

    /// As `tunnel::is_wanted` of the programs says.
    fn goes_directly(&self, sender: &Sender<'_>, backend: IpAddr) -> bool {
        let (maps, src) = (self.maps, self.asked.src);
        matches!(sender, Sender::Uplink)
            && maps.loaded.settings.direct_return
            && self.asked.protocol() != Protocol::Sctp as u8
            && maps.has_address_of(src)
            && maps.peer(backend).is_some_and(|peer| !peer.are_in_tunnel())
            && !maps.is(src, addresses::NODE | addresses::PEER)
            && maps.peer(src).is_none()
    }

    /// A service's packet: chooses as `dial` does, and goes each way.
    fn balanced(
        &self,
        start: Journey,
        hook: &'static str,
        to: &Pointer,
        from: From,
        way: impl Fn(Journey, &choice::Candidate) -> Way,
    ) -> Ways {
        let (maps, src) = (self.maps, self.asked.src);
        if to.exposure.source_ranges && !maps.in_ranges(to, src) {
            let why = "the client is in none of the Service's source ranges";
            return one(start.fails(hook, Reason::SourceRange, why));
        }
        let client = Address::from(src);
        let seed = Some(vetch_ebpf_common::client_seed(client));
        match maps.choose(to, from, client, seed) {
            Chosen::NoEndpoints => one(start.fails(hook, Reason::NoEndpoints, NO_ENDPOINTS)),
            Chosen::NoLocalEndpoints => one(start.fails(hook, Reason::NoLocalEndpoints, NO_LOCAL)),
            Chosen::Of(why, backends) => {
                let start = start.hop(hook, why);
                let ways = backends.iter();
                let ways = ways.map(|backend| way(Journey::default(), backend).to(backend));
                (start.hops, ways.collect())
            }
        }
    }
}

const UNKNOWN_PORT: &str = "the address is a Service's, and the port is none of its";
const NO_ENDPOINTS: &str = "the Service has no endpoints";
const NO_LOCAL: &str = "the policy is Local, and no endpoint is on this node";

fn one(way: Way) -> Ways {
    (Vec::new(), vec![way])
}

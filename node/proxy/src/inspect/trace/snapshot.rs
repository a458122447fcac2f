//! What a trace is decided over: the maps of a moment, and the routes to some addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use vetch_ebpf_common::{Address, PeerPods, Pod, Sources};
use vetch_policy::{Contents, Explained};

use crate::{
    diff::{Current, ServiceId},
    hooks::{Attached, LinkName, Program},
    model::Backend,
    notes::LoadedFor,
};

#[derive(Clone, Debug)]
pub struct Snapshot {
    pub loaded: LoadedFor,
    /// `SO_NETNS_COOKIE` of the node.
    pub node_netns: u64,
    pub pods: BTreeMap<IpAddr, Pod>,
    /// Flags of [`vetch_ebpf_common::addresses`].
    pub addresses: BTreeMap<IpAddr, u32>,
    pub services: Current,
    /// The backends of clients with session affinity whose time is not over.
    pub affinity: BTreeMap<(Address, ServiceId), Backend>,
    /// Whether policies are in force at all.
    pub policies: bool,
    pub rules: Contents,
    /// By which rules of administrators' policies sets decide.
    pub words: Explained,
    /// Other nodes' pods.
    pub peers: BTreeMap<IpNet, PeerPods>,
    /// Whom pods reach with their own address.
    pub keeps_source: BTreeSet<IpNet>,
    /// As whom pods are seen, by uplink.
    pub sources: BTreeMap<u32, Sources>,
    pub links: BTreeMap<u32, LinkName>,
    pub attached: Vec<Attached>,
    /// What the kernel says of each destination, for this sender.
    pub routes: BTreeMap<IpAddr, Route>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the node itself.
    Local,
    By {
        link: u32,
        gateway: Option<IpAddr>,
    },
    None,
}

impl Snapshot {
    pub fn is(&self, ip: IpAddr, flags: u32) -> bool {
        self.addresses.get(&ip).is_some_and(|own| own & flags != 0)
    }

    /// The node's own of the same family; the unspecified one where it has none.
    pub fn node_address(&self, like: IpAddr) -> IpAddr {
        let (own, none) = if like.is_ipv4() {
            (self.loaded.v4, IpAddr::from(Ipv4Addr::UNSPECIFIED))
        } else {
            (self.loaded.v6, IpAddr::from(Ipv6Addr::UNSPECIFIED))
        };
        own.unwrap_or(none)
    }

    pub fn has_address_of(&self, like: IpAddr) -> bool {
        !self.node_address(like).is_unspecified()
    }

    pub fn peer(&self, ip: IpAddr) -> Option<&PeerPods> {
        longest(self.peers.iter(), ip)
    }

    pub fn keeps_source(&self, ip: IpAddr) -> bool {
        self.keeps_source.iter().any(|range| range.contains(&ip))
    }

    /// A link's name, or its number.
    pub fn link(&self, index: u32) -> String {
        let known = self.links.get(&index);
        known.map_or_else(|| format!("link {index}"), |(name, _)| name.clone())
    }

    pub fn has_program(&self, program: Program, ifindex: u32) -> bool {
        let mut all = self.attached.iter();
        all.any(|one| one.program == program && one.ifindex == ifindex)
    }

    /// The link by which it leaves, if a program is at its egress there.
    pub fn uplink_to(&self, ip: IpAddr) -> Option<u32> {
        match self.routes.get(&ip)? {
            Route::By { link, .. } => {
                let link = *link;
                self.has_program(Program::ToNet, link).then_some(link)
            }
            Route::Local | Route::None => None,
        }
    }
}

fn longest<'a, V>(ranges: impl Iterator<Item = (&'a IpNet, &'a V)>, ip: IpAddr) -> Option<&'a V> {
    let around = ranges.filter(|(range, _)| range.contains(&ip));
    let longest = around.max_by_key(|(range, _)| range.prefix_len());
    longest.map(|(_, value)| value)
}

//! Tiers, flattened: for each peer that rules can tell apart, what is let pass.
//!
//! Peers are the classes of pods, the ranges, and everybody else. All addresses of a
//! range that are in no smaller one are in the same of the rules' ranges, and so are
//! all of a class, so that each rule is about a peer as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use vetch_ebpf_common::Protocol;

use crate::{
    Class, Grant, PeerSpec, Port, RuleSpec, Set, Who,
    classes::{Classes, Trait, longest, peers},
    tiers::{Tiers, let_pass},
    traffic::Traffic,
    why::Why,
};

pub fn set(tiers: &Tiers, blocks: &BTreeSet<IpNet>, classes: &Classes<'_>) -> Set {
    let rules: Vec<Asked<'_>> = tiers
        .rules()
        .map(|rule| Asked::new(rule, classes))
        .collect();
    let of_classes = (0..classes.within.len()).map(Who::Class);
    let of_blocks = blocks.iter().copied().map(Who::Block);
    let mut grants = BTreeSet::new();
    let mut why = Why::new(tiers);
    for who in of_classes.chain(of_blocks).chain([Who::Anybody]) {
        let peer = Peer::new(who, classes);
        let decided = tiers.decide(rules.iter().map(|rule| rule.about(&peer)));
        let ports = let_pass(&decided).rules().into_iter();
        grants.extend(ports.map(|ports| Grant { who, ports }));
        why.note(who, decided);
    }
    Set {
        exact: true,
        grants,
        why: Some(why),
    }
}

struct Peer {
    class: Option<Class>,
    within: Option<IpNet>,
}

impl Peer {
    fn new(who: Who, classes: &Classes<'_>) -> Self {
        let (class, within) = match who {
            Who::Class(class) => (Some(class), classes.within[class]),
            Who::Block(range) => (None, Some(range)),
            Who::Anybody => (None, None),
        };
        Self { class, within }
    }
}

/// A rule, looked up once for all peers.
struct Asked<'a> {
    /// The ports that it names by number, or all.
    ports: Traffic,
    /// Ranges that nothing is excepted from: there may be thousands.
    networks: BTreeSet<IpNet>,
    peers: Vec<AskedPeer<'a>>,
}

struct AskedPeer<'a> {
    peer: Option<&'a PeerSpec>,
    /// Which classes it is about.
    classes: Option<&'a BTreeMap<Class, Vec<u16>>>,
    /// And which have its named ports.
    named: Vec<(Protocol, &'a BTreeMap<Class, Vec<u16>>)>,
}

impl<'a> Asked<'a> {
    fn new(rule: &'a RuleSpec, classes: &'a Classes<'a>) -> Self {
        let having = |peer, port| classes.having.get(&Trait { peer, port });
        let named = |peer| -> Vec<_> {
            let ports = rule.ports.iter().filter_map(move |spec| match &spec.port {
                Port::Named(name) => {
                    let port = Some((spec.protocol, name.as_str()));
                    Some((spec.protocol, having(peer, port)?))
                }
                _ => None,
            });
            ports.collect()
        };
        let mut networks = BTreeSet::new();
        let mut others = Vec::new();
        for peer in peers(rule) {
            let named = named(peer);
            match peer {
                Some(PeerSpec::Block { cidr, except }) if except.is_empty() && named.is_empty() => {
                    networks.insert(*cidr);
                }
                _ => others.push(AskedPeer {
                    peer,
                    classes: having(peer, None),
                    named,
                }),
            }
        }
        Self {
            ports: by_number(rule),
            networks,
            peers: others,
        }
    }

    /// What it is about of a peer's traffic.
    fn about(&self, peer: &Peer) -> Traffic {
        let mut about = Traffic::default();
        if let Some(range) = peer.within
            && longest(&self.networks, range).is_some()
        {
            about = about.or(&self.ports);
        }
        for asked in &self.peers {
            let matches = match asked.peer {
                None => true,
                Some(PeerSpec::Pods { .. }) => {
                    let class = peer.class.as_ref();
                    class.is_some_and(|one| asked.classes.is_some_and(|all| all.contains_key(one)))
                }
                Some(PeerSpec::Block { cidr, except }) => peer.within.is_some_and(|range| {
                    cidr.contains(&range) && !except.iter().any(|except| except.contains(&range))
                }),
                Some(PeerSpec::Nodes(_) | PeerSpec::Nobody) => false,
            };
            if matches {
                about = about.or(&self.ports);
            }
            let Some(class) = peer.class else { continue };
            for (protocol, having) in &asked.named {
                for port in having.get(&class).into_iter().flatten() {
                    about = about.or(&Traffic::range(*protocol, *port, *port));
                }
            }
        }
        about
    }
}

fn by_number(rule: &RuleSpec) -> Traffic {
    if rule.ports.is_empty() {
        return Traffic::all();
    }
    let ports = rule.ports.iter().map(|spec| match &spec.port {
        Port::All => Traffic::range(spec.protocol, 0, u16::MAX),
        Port::Range(first, last) => Traffic::range(spec.protocol, *first, *last),
        Port::Named(_) | Port::None => Traffic::default(),
    });
    ports.fold(Traffic::default(), |all, one| all.or(&one))
}

//! What exact sets decide and by which rules, for people: the maps have neither names
//! nor what is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vetch_ebpf_common::{Peer, PolicyType};

use crate::{
    Action, Contents, Held, Tier, Wanted, Who,
    tiers::{Decided, Line, Tiers},
    traffic::Traffic,
};

/// Of one set, without numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    admin: Vec<Named>,
    baseline: Vec<Named>,
    by_peer: BTreeMap<Who, Vec<Decided>>,
}

/// A rule of an admin policy, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    action: Action,
    /// `rule 2 (dns) of AdminNetworkPolicy name, priority 5`, the first rule being 1.
    words: String,
}

impl Named {
    fn admin(line: &Line) -> Self {
        let mut named = Self::new("AdminNetworkPolicy", line);
        named.words += &format!(", priority {}", line.priority);
        named
    }

    fn baseline(line: &Line) -> Self {
        Self::new("BaselineAdminNetworkPolicy", line)
    }

    fn new(kind: &str, line: &Line) -> Self {
        let name = match line.name.as_str() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        let (number, policy) = (line.at + 1, &line.policy);
        Self {
            action: line.action,
            words: format!("rule {number}{name} of {kind} {policy}"),
        }
    }
}

impl Why {
    pub(crate) fn new(tiers: &Tiers) -> Self {
        Self {
            admin: tiers.admin.iter().map(Named::admin).collect(),
            baseline: tiers.baseline.iter().map(Named::baseline).collect(),
            by_peer: BTreeMap::new(),
        }
    }

    pub(crate) fn note(&mut self, who: Who, decided: Vec<Decided>) {
        self.by_peer.insert(who, decided);
    }

    fn words(&self, by: Tier) -> String {
        match by {
            Tier::Admin(at) => self.admin[at].words.clone(),
            Tier::Baseline(at) => self.baseline[at].words.clone(),
            Tier::Policies => "the pod's NetworkPolicies".to_owned(),
            Tier::None => "no rule of any policy".to_owned(),
        }
    }

    /// In the order in which they are asked.
    fn order(&self) -> Vec<String> {
        let lines = self.admin.iter().chain(&self.baseline);
        lines
            .map(|line| format!("{:?}: {}", line.action, line.words))
            .collect()
    }
}

/// All exact sets of a node, by the numbers that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    pub sets: Vec<ExplainedSet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSet {
    pub egress: bool,
    pub number: u16,
    /// The rules of admin policies, in the order in which they are asked.
    pub order: Vec<String>,
    pub peers: Vec<ExplainedPeer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPeer {
    /// The bits of a [`Peer`].
    pub peer: u32,
    pub parts: Vec<ExplainedPart>,
}

/// Some of the traffic with a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedPart {
    pub lets: bool,
    pub by: String,
    /// First and last ports, by the numbers of protocols.
    pub ports: BTreeMap<u8, Vec<[u16; 2]>>,
    /// Whether protocols without ports are among it.
    pub others: bool,
}

/// `contents` are what `wanted` was numbered to.
pub fn explain(wanted: &Wanted, contents: &Contents) -> Explained {
    let mut classes = BTreeMap::new();
    for (ip, class) in &wanted.identities {
        classes.extend(contents.identities.get(ip).map(|number| (*class, *number)));
    }
    let mut sets = BTreeMap::new();
    for (ip, held) in &wanted.pods {
        let (Held::Rules { ingress, egress }, Some([of_ingress, of_egress])) =
            (held, contents.pods.get(ip))
        else {
            continue;
        };
        sets.extend(ingress.map(|set| ((false, set), *of_ingress)));
        sets.extend(egress.map(|set| ((true, set), *of_egress)));
    }
    let peer = |who: &Who| {
        Some(match who {
            Who::Anybody => Peer::ANY,
            Who::Class(class) => Peer::identity(*classes.get(class)?),
            Who::Block(range) => Peer::block(*contents.blocks.get(range)?),
        })
    };
    let explained = |((egress, set), number): (&(bool, usize), &u16)| {
        let of = if *egress {
            PolicyType::Egress
        } else {
            PolicyType::Ingress
        };
        let why = wanted.sets(of).get(*set)?.why.as_ref()?;
        let part = |one: &Decided| ExplainedPart {
            lets: one.lets,
            by: why.words(one.by),
            ports: ports(&one.what),
            others: one.what.has_others(),
        };
        let peers = why.by_peer.iter().filter_map(|(who, decided)| {
            Some(ExplainedPeer {
                peer: peer(who)?.bits(),
                parts: decided.iter().map(part).collect(),
            })
        });
        Some(ExplainedSet {
            egress: *egress,
            number: *number,
            order: why.order(),
            peers: peers.collect(),
        })
    };
    Explained {
        sets: sets.iter().filter_map(explained).collect(),
    }
}

fn ports(what: &Traffic) -> BTreeMap<u8, Vec<[u16; 2]>> {
    let all = what.ports();
    all.map(|(protocol, spans)| {
        let ranges = spans.iter().map(|(first, last)| [first, last]);
        (protocol as u8, ranges.collect())
    })
    .collect()
}

impl Explained {
    pub fn set(&self, of: PolicyType, number: u16) -> Option<&ExplainedSet> {
        let mut sets = self.sets.iter();
        sets.find(|set| set.egress == (of == PolicyType::Egress) && set.number == number)
    }
}

impl ExplainedSet {
    /// By which rule the first packet of such a conversation passes or not.
    pub fn why(&self, peer: Peer, protocol: u8, port: u16) -> Option<&ExplainedPart> {
        let peer = self.peers.iter().find(|one| one.peer == peer.bits())?;
        let mut parts = peer.parts.iter();
        parts.find(|part| match part.ports.get(&protocol) {
            Some(ranges) => ranges
                .iter()
                .any(|[first, last]| (first..=last).contains(&&port)),
            None => part.others && !has_ports(protocol),
        })
    }
}

fn has_ports(protocol: u8) -> bool {
    crate::traffic::PROTOCOLS
        .iter()
        .any(|one| *one as u8 == protocol)
}

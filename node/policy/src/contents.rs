//! What the maps hold, in their own numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vetch_ebpf_common::{Address, Peer, Rule, policy::Lookup};

/// The maps of one node. It answers as the programs do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The numbers of the sets by which an address here is held, for ingress and
    /// egress; those that are pending are not among them.
    pub pods: BTreeMap<IpAddr, [u16; 2]>,
    pub identities: BTreeMap<IpAddr, u32>,
    pub blocks: BTreeMap<IpNet, u32>,
    /// With the lengths of their prefixes.
    pub rules: BTreeSet<(u32, Rule)>,
}

impl Lookup for Contents {
    fn identity(&self, address: &Address) -> u32 {
        self.identities
            .get(&IpAddr::from(*address))
            .copied()
            .unwrap_or(0)
    }

    fn block(&self, address: &Address) -> u32 {
        let ip = IpAddr::from(*address);
        let around = self.blocks.iter().filter(|(range, _)| range.contains(&ip));
        around
            .max_by_key(|(range, _)| range.prefix_len())
            .map_or(0, |(_, number)| *number)
    }

    fn has(&self, rule: &Rule) -> bool {
        let (set, peer, protocol, port) = (rule.set(), rule.peer(), rule.protocol(), rule.port());
        let known = |length, protocol, port: u16| {
            let rule = Rule::new(set, peer, protocol, port.to_be_bytes());
            self.rules.contains(&(length, rule))
        };
        (0..8_u8).any(|bits| {
            let fixed = !(u8::MAX >> bits);
            known(Rule::ALL + u32::from(bits), protocol & fixed, 0)
        }) || (0..=16).any(|bits| {
            let fixed = u32::from(u16::MAX) << (16 - bits);
            known(Rule::PROTOCOL + bits, protocol, port & fixed as u16)
        })
    }
}

/// From one state of the maps to another, in this order: what new numbers mean comes
/// before who has them, and what old ones mean from now on when nobody has them any
/// more for whom that is not meant. Pods and their sets are written before anything is
/// removed that lets pass. Identities and ranges go last: whoever one has kept out may be
/// in a larger range, or among everybody else, whose rules were still the old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// About peers whose numbers nobody has.
    pub add_rules_of_new: Vec<(u32, Rule)>,
    pub set_blocks: Vec<(IpNet, u32)>,
    pub set_identities: Vec<(IpAddr, u32)>,
    pub add_rules: Vec<(u32, Rule)>,
    pub remove_rules: Vec<(u32, Rule)>,
    pub remove_identities: Vec<IpAddr>,
    pub remove_blocks: Vec<IpNet>,
}

impl Steps {
    pub fn len(&self) -> usize {
        self.add_rules_of_new.len()
            + self.add_rules.len()
            + self.set_blocks.len()
            + self.set_identities.len()
            + self.remove_blocks.len()
            + self.remove_identities.len()
            + self.remove_rules.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

pub fn steps(from: &Contents, to: &Contents) -> Steps {
    let (set_blocks, remove_blocks) = changes(&from.blocks, &to.blocks);
    let (set_identities, remove_identities) = changes(&from.identities, &to.identities);
    let in_use: BTreeSet<Peer> = [Peer::ANY]
        .into_iter()
        .chain(from.identities.values().copied().map(Peer::identity))
        .chain(from.blocks.values().copied().map(Peer::block))
        .collect();
    let new = to.rules.difference(&from.rules).copied();
    let (add_rules, add_rules_of_new) = new.partition(|(_, rule)| in_use.contains(&rule.peer()));
    Steps {
        add_rules_of_new,
        add_rules,
        set_blocks,
        set_identities,
        remove_blocks,
        remove_identities,
        remove_rules: from.rules.difference(&to.rules).copied().collect(),
    }
}

fn changes<K: Ord + Copy>(
    from: &BTreeMap<K, u32>,
    to: &BTreeMap<K, u32>,
) -> (Vec<(K, u32)>, Vec<K>) {
    let new = to
        .iter()
        .filter(|(key, value)| from.get(*key) != Some(*value));
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    (
        new.map(|(key, value)| (*key, *value)).collect(),
        gone.copied().collect(),
    )
}

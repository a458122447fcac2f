//! Pods of the cluster, told apart by what rules ask for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use vetch_ebpf_common::Protocol;

use crate::{Class, Labels, Namespaces, PeerSpec, Pod, PodPort, Port, RuleSpec, World};

/// What can be said of a pod that rules ask for: that a peer of theirs is about it,
/// and the numbers of a named port if it has that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trait<'a> {
    /// None for anybody.
    pub peer: Option<&'a PeerSpec>,
    pub port: Option<(Protocol, &'a str)>,
}

/// The traits of a rule's peer and port, unless addresses alone decide.
fn trait_of<'a>(
    peer: Option<&'a PeerSpec>,
    port: Option<(Protocol, &'a str)>,
) -> Option<Trait<'a>> {
    match (peer, port) {
        (Some(PeerSpec::Pods { .. }), _) | (_, Some(_)) => Some(Trait { peer, port }),
        _ => None,
    }
}

/// None for anybody.
pub fn peers(rule: &RuleSpec) -> impl Iterator<Item = Option<&PeerSpec>> {
    let anybody = rule.peers.is_empty().then_some(None);
    rule.peers.iter().map(Some).chain(anybody)
}

/// The names that are still to be resolved: None if there is something else too.
fn names(rule: &RuleSpec) -> impl Iterator<Item = Option<(Protocol, &str)>> {
    let plain = rule.ports.is_empty().then_some(None);
    let ports = rule.ports.iter().map(|spec| match &spec.port {
        Port::Named(name) => Some((spec.protocol, name.as_str())),
        _ => None,
    });
    ports.chain(plain)
}

/// Pods of the cluster, told apart by what rules ask for and nothing else.
pub struct Classes<'a> {
    pub of: BTreeMap<IpAddr, Class>,
    /// Of each trait, who has it, with the numbers of its port.
    pub having: BTreeMap<Trait<'a>, BTreeMap<Class, Vec<u16>>>,
    /// Of each class, the range of exact sets that its addresses are in.
    pub within: Vec<Option<IpNet>>,
}

/// `ranges` are those of exact sets: nobody in a class is in another one of them.
pub fn classes<'a>(
    world: &World,
    rules: impl Iterator<Item = &'a RuleSpec>,
    ranges: &BTreeSet<IpNet>,
) -> Classes<'a> {
    let mut traits: BTreeSet<Trait<'a>> = BTreeSet::new();
    for rule in rules {
        for peer in peers(rule) {
            traits.extend(names(rule).filter_map(|port| trait_of(peer, port)));
        }
    }
    let traits: Vec<Trait<'a>> = traits.into_iter().collect();
    let by_address = |one: &Trait<'_>| matches!(one.peer, Some(PeerSpec::Block { .. }));
    let plain = !traits.iter().any(by_address);
    let mut known: BTreeMap<(Signature, Option<IpNet>), Class> = BTreeMap::new();
    let mut seen: HashMap<(&str, &Labels, &[PodPort]), Signature> = HashMap::new();
    let mut of = BTreeMap::new();
    for (ip, pod) in world.peers() {
        let signature = if plain {
            // Most pods of a controller have all in common that is asked for.
            let key = (pod.namespace.as_str(), &*pod.labels, &*pod.ports);
            let made = seen.entry(key);
            made.or_insert_with(|| signature(world, pod, ip, &traits))
                .clone()
        } else {
            signature(world, pod, ip, &traits)
        };
        if !signature.is_empty() {
            let next = known.len();
            let key = (signature, longest(ranges, IpNet::from(ip)));
            of.insert(ip, *known.entry(key).or_insert(next));
        }
    }
    let mut having: BTreeMap<Trait<'a>, BTreeMap<Class, Vec<u16>>> = BTreeMap::new();
    let mut within = vec![None; known.len()];
    for ((signature, range), class) in known {
        within[class] = range;
        for (index, numbers) in signature {
            having
                .entry(traits[index])
                .or_default()
                .insert(class, numbers);
        }
    }
    Classes { of, having, within }
}

/// The smallest of the ranges that this one is in.
pub fn longest(ranges: &BTreeSet<IpNet>, of: IpNet) -> Option<IpNet> {
    if ranges.is_empty() {
        return None;
    }
    let lengths = (0..=of.prefix_len()).rev();
    let around = lengths.filter_map(|length| IpNet::new(of.addr(), length).ok());
    around
        .map(|range| range.trunc())
        .find(|range| ranges.contains(range))
}

/// Which traits, and the numbers of their ports.
type Signature = BTreeMap<usize, Vec<u16>>;

fn signature(world: &World, pod: &Pod, ip: IpAddr, traits: &[Trait<'_>]) -> Signature {
    let mut signature = Signature::new();
    for (index, one) in traits.iter().enumerate() {
        if !one.peer.is_none_or(|peer| is_about(peer, world, pod, ip)) {
            continue;
        }
        let numbers: Vec<u16> = match one.port {
            None => Vec::new(),
            Some((protocol, name)) => pod.named(protocol, name).collect(),
        };
        if one.port.is_none() || !numbers.is_empty() {
            signature.insert(index, numbers);
        }
    }
    signature
}

fn is_about(peer: &PeerSpec, world: &World, pod: &Pod, ip: IpAddr) -> bool {
    match peer {
        PeerSpec::Pods {
            namespaces,
            selector,
        } => {
            let in_namespaces = match namespaces {
                Namespaces::One(name) => *name == pod.namespace,
                Namespaces::Matching(selector) => world
                    .namespaces
                    .get(&pod.namespace)
                    .is_some_and(|labels| selector.matches(labels)),
            };
            in_namespaces && selector.matches(&pod.labels)
        }
        PeerSpec::Block { cidr, except } => {
            cidr.contains(&ip) && !except.iter().any(|range| range.contains(&ip))
        }
        // Ranges by now.
        PeerSpec::Nodes(_) | PeerSpec::Nobody => false,
    }
}

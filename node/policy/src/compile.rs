//! What the node's pods may say and hear, without numbers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;
use vetch_ebpf_common::{PolicyType, Protocol};

use crate::{
    Namespaces, PeerSpec, Pod, Policy, Port, RuleSpec, World, ports::prefixes, world::Local,
};

/// A number of the compiler's own, from 0 on.
pub type Class = usize;

/// What the maps are to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Each address that is attached here.
    pub pods: BTreeMap<IpAddr, Held>,
    /// What each set lets pass.
    pub ingress: Vec<BTreeSet<Grant>>,
    pub egress: Vec<BTreeSet<Grant>>,
    /// The class of each pod's address in the cluster that is in one.
    pub identities: BTreeMap<IpAddr, Class>,
    /// Ranges by whose longest match addresses are told apart.
    pub blocks: BTreeSet<IpNet>,
}

/// How a pod's address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is not known yet how.
    Pending,
    /// By which sets; None for a direction in which it may do as it likes.
    Rules {
        ingress: Option<usize>,
        egress: Option<usize>,
    },
}

/// Who may, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    pub who: Who,
    pub ports: Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    Anybody,
    Class(Class),
    Block(IpNet),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// Of every protocol, those without ports too.
    All,
    Protocol(Protocol),
    /// Those that have so many bits of this one.
    Prefix(Protocol, u16, u8),
}

impl Wanted {
    pub fn sets(&self, of: PolicyType) -> &[BTreeSet<Grant>] {
        match of {
            PolicyType::Ingress => &self.ingress,
            PolicyType::Egress => &self.egress,
        }
    }
}

/// Rules of one direction, the union of those of all policies that select a pod.
type Rules = BTreeSet<RuleSpec>;

pub fn compile(world: &World) -> Wanted {
    let mut wanted = Wanted::default();
    if world.policies.is_empty() {
        let free = Held::Rules {
            ingress: None,
            egress: None,
        };
        wanted.pods = world.local.keys().map(|ip| (*ip, free)).collect();
        return wanted;
    }
    let mut ingress = Sets::default();
    let mut egress = Sets::default();
    for (ip, local) in world.local() {
        let held = match local {
            Local::Unknown => Held::Pending,
            Local::Nobody => Held::Rules {
                ingress: None,
                egress: None,
            },
            Local::Pod(pod) => {
                let rules = |of| rules(world, pod, of);
                Held::Rules {
                    ingress: rules(PolicyType::Ingress).map(|rules| ingress.number(rules)),
                    egress: rules(PolicyType::Egress).map(|rules| egress.number(rules)),
                }
            }
        };
        wanted.pods.insert(ip, held);
    }
    let used = || ingress.0.keys().chain(egress.0.keys()).flatten();
    wanted.blocks = blocks(used());
    let classes = classes(world, used());
    wanted.ingress = ingress.grants(&wanted.blocks, &classes);
    wanted.egress = egress.grants(&wanted.blocks, &classes);
    wanted.identities = classes.of;
    wanted
}

/// None if no policy isolates the pod.
fn rules(world: &World, pod: &Pod, of: PolicyType) -> Option<Rules> {
    let first = (pod.namespace.clone(), String::new());
    let own = world.policies.range(first..);
    let own = own.take_while(|((namespace, _), _)| *namespace == pod.namespace);
    let selecting = own.filter(|(_, policy)| policy.selector.matches(&pod.labels));
    let lists = selecting.filter_map(|(_, policy)| of_policy(policy, of));
    lists.fold(None, |all, list| {
        let mut all = all.unwrap_or_else(Rules::new);
        all.extend(list.iter().map(|rule| match of {
            // The pod's own ports; what it speaks to has others.
            PolicyType::Ingress => resolved(rule, pod),
            PolicyType::Egress => rule.clone(),
        }));
        Some(all)
    })
}

fn of_policy(policy: &Policy, of: PolicyType) -> Option<&Vec<RuleSpec>> {
    match of {
        PolicyType::Ingress => policy.ingress.as_ref(),
        PolicyType::Egress => policy.egress.as_ref(),
    }
}

/// With the numbers that the pod gives to names. A name that it has not is no port,
/// which is another thing than a rule without ports.
fn resolved(rule: &RuleSpec, pod: &Pod) -> RuleSpec {
    let ports = rule.ports.iter().flat_map(|spec| {
        match &spec.port {
            Port::Named(name) => {
                let numbers: Vec<u16> = pod.named(spec.protocol, name).collect();
                let mut ports: Vec<Port> = numbers.into_iter().map(|n| Port::Range(n, n)).collect();
                if ports.is_empty() {
                    ports.push(Port::None);
                }
                ports
            }
            port => vec![port.clone()],
        }
        .into_iter()
        .map(|port| crate::PortSpec {
            protocol: spec.protocol,
            port,
        })
    });
    RuleSpec {
        peers: rule.peers.clone(),
        ports: ports.collect(),
    }
}

/// Sets of rules with a number each.
#[derive(Default)]
struct Sets(BTreeMap<Rules, usize>);

impl Sets {
    fn number(&mut self, rules: Rules) -> usize {
        let next = self.0.len();
        *self.0.entry(rules).or_insert(next)
    }

    fn grants(&self, blocks: &BTreeSet<IpNet>, classes: &Classes) -> Vec<BTreeSet<Grant>> {
        let mut sets = vec![BTreeSet::new(); self.0.len()];
        for (rules, number) in &self.0 {
            sets[*number] = grants(rules, blocks, classes);
        }
        sets
    }
}

/// What can be said of a pod that rules ask for: that a peer of theirs is about it,
/// and the numbers of a named port if it has that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trait<'a> {
    /// None for anybody.
    peer: Option<&'a PeerSpec>,
    port: Option<(Protocol, &'a str)>,
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

fn peers(rule: &RuleSpec) -> impl Iterator<Item = Option<&PeerSpec>> {
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
struct Classes<'a> {
    of: BTreeMap<IpAddr, Class>,
    /// Of each trait, who has it, with the numbers of its port.
    having: BTreeMap<Trait<'a>, BTreeMap<Class, Vec<u16>>>,
}

fn classes<'a>(world: &World, rules: impl Iterator<Item = &'a RuleSpec>) -> Classes<'a> {
    let mut traits: BTreeSet<Trait<'a>> = BTreeSet::new();
    for rule in rules {
        for peer in peers(rule) {
            traits.extend(names(rule).filter_map(|port| trait_of(peer, port)));
        }
    }
    let traits: Vec<Trait<'a>> = traits.into_iter().collect();
    let by_address = |one: &Trait<'_>| matches!(one.peer, Some(PeerSpec::Block { .. }));
    let plain = !traits.iter().any(by_address);
    let mut known: BTreeMap<Signature, Class> = BTreeMap::new();
    let mut seen: HashMap<(&str, &crate::Labels, &[crate::PodPort]), Signature> = HashMap::new();
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
            of.insert(ip, *known.entry(signature).or_insert(next));
        }
    }
    let mut having: BTreeMap<Trait<'a>, BTreeMap<Class, Vec<u16>>> = BTreeMap::new();
    for (signature, class) in known {
        for (index, numbers) in signature {
            having
                .entry(traits[index])
                .or_default()
                .insert(class, numbers);
        }
    }
    Classes { of, having }
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
        PeerSpec::Nobody => false,
    }
}

/// Every range that decides about somebody.
fn blocks<'a>(rules: impl Iterator<Item = &'a RuleSpec>) -> BTreeSet<IpNet> {
    let mut blocks = BTreeSet::new();
    for peer in rules.flat_map(|rule| &rule.peers) {
        if let PeerSpec::Block { cidr, except } = peer {
            blocks.insert(*cidr);
            blocks.extend(except.iter().filter(|range| cidr.contains(*range)));
        }
    }
    blocks
}

fn grants(rules: &Rules, blocks: &BTreeSet<IpNet>, classes: &Classes<'_>) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for rule in rules {
        for peer in peers(rule) {
            if rule.ports.is_empty() {
                let all = |who| Grant {
                    who,
                    ports: Ports::All,
                };
                grants.extend(who(peer, blocks, classes).into_iter().map(all));
            }
            for spec in &rule.ports {
                let protocol = spec.protocol;
                let mut grant = |who: &[Who], first, last| {
                    for (port, length) in prefixes(first, last) {
                        let ports = Ports::Prefix(protocol, port, length);
                        grants.extend(who.iter().map(|who| Grant { who: *who, ports }));
                    }
                };
                match &spec.port {
                    Port::None => {}
                    Port::Range(first, last) => {
                        grant(&who(peer, blocks, classes), *first, *last);
                    }
                    Port::All => {
                        let ports = Ports::Protocol(protocol);
                        let who = who(peer, blocks, classes);
                        grants.extend(who.into_iter().map(|who| Grant { who, ports }));
                    }
                    // Only pods have names for their ports.
                    Port::Named(name) => {
                        let one = Trait {
                            peer,
                            port: Some((protocol, name)),
                        };
                        for (class, numbers) in classes.having.get(&one).into_iter().flatten() {
                            for number in numbers {
                                grant(&[Who::Class(*class)], *number, *number);
                            }
                        }
                    }
                }
            }
        }
    }
    grants
}

/// All that a peer is about, by itself.
fn who(peer: Option<&PeerSpec>, blocks: &BTreeSet<IpNet>, classes: &Classes<'_>) -> Vec<Who> {
    match peer {
        None => vec![Who::Anybody],
        Some(PeerSpec::Nobody) => Vec::new(),
        Some(PeerSpec::Pods { .. }) => {
            let having = classes.having.get(&Trait { peer, port: None });
            let classes = having.into_iter().flat_map(|having| having.keys());
            classes.map(|class| Who::Class(*class)).collect()
        }
        Some(PeerSpec::Block { cidr, except }) => {
            let left_out = |range: &IpNet| except.iter().any(|except| except.contains(range));
            let inside = blocks.iter().filter(|range| cidr.contains(*range));
            inside
                .filter(|range| !left_out(range))
                .map(|range| Who::Block(*range))
                .collect()
        }
    }
}

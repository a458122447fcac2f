//! What the node's pods may say and hear, without numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use vetch_ebpf_common::{MAX_BLOCKS, MAX_IDENTITIES, PolicyType, Protocol};

use crate::{
    AdminRule, PeerSpec, Pod, Policy, Port, RuleSpec, World,
    classes::{Classes, Trait, classes, peers},
    exact,
    known::{Admin, Known},
    ports::prefixes,
    tiers::{Judged, Line, Rules, Tiers},
    why::Why,
    world::Local,
};

/// A number of the compiler's own, from 0 on.
pub type Class = usize;

/// What the maps are to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Each address that is attached here.
    pub pods: BTreeMap<IpAddr, Held>,
    pub ingress: Vec<Set>,
    pub egress: Vec<Set>,
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

/// What is let pass in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Whether only the grants of the most specific peer count: [`Who::Anybody`] is
    /// everybody else then.
    pub exact: bool,
    pub grants: BTreeSet<Grant>,
    /// Of an exact set.
    pub why: Option<Why>,
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
    /// Of the protocols whose numbers have so many first bits of this one.
    Protocols(u8, u8),
    Protocol(Protocol),
    /// Those that have so many bits of this one.
    Prefix(Protocol, u16, u8),
}

impl Wanted {
    pub fn sets(&self, of: PolicyType) -> &[Set] {
        match of {
            PolicyType::Ingress => &self.ingress,
            PolicyType::Egress => &self.egress,
        }
    }
}

pub fn compile(world: &World) -> Wanted {
    let mut wanted = Wanted::default();
    if !world.has_policies() {
        let free = Held::Rules {
            ingress: None,
            egress: None,
        };
        wanted.pods = world.local.keys().map(|ip| (*ip, free)).collect();
        return wanted;
    }
    let admin = Admin::of(world);
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
                let judged = |of| judged(world, &admin, pod, of);
                Held::Rules {
                    ingress: judged(PolicyType::Ingress).map(|by| ingress.number(by)),
                    egress: judged(PolicyType::Egress).map(|by| egress.number(by)),
                }
            }
        };
        wanted.pods.insert(ip, held);
    }
    let all = || ingress.0.keys().chain(egress.0.keys());
    let used = || all().flat_map(Judged::rules);
    wanted.blocks = blocks(used());
    let exact = blocks(all().filter_map(Judged::tiers).flat_map(Tiers::rules));
    let classes = classes(world, used(), &exact);
    // Whom the maps have no room for would be everybody else to exact sets.
    let fits =
        wanted.blocks.len() <= MAX_BLOCKS as usize && classes.of.len() <= MAX_IDENTITIES as usize;
    wanted.ingress = ingress.sets(&wanted.blocks, &classes, fits);
    wanted.egress = egress.sets(&wanted.blocks, &classes, fits);
    wanted.identities = classes.of;
    wanted
}

/// None for a pod that may do as it likes.
fn judged(world: &World, admin: &Admin<'_>, pod: &Pod, of: PolicyType) -> Option<Judged> {
    let lines = |known: &Known<'_>| lines(world, known, pod, of);
    let own: Vec<Line> = admin.policies.iter().flat_map(lines).collect();
    let policies = rules(world, pod, of);
    let baseline = match (&policies, &admin.baseline) {
        (None, Some(baseline)) => lines(baseline),
        // It has no say where they have.
        _ => Vec::new(),
    };
    if own.is_empty() && baseline.is_empty() {
        return policies.map(Judged::ByPolicies);
    }
    Some(Judged::ByTiers(Tiers {
        admin: own,
        policies,
        baseline,
    }))
}

/// Of a policy whose subject the pod is.
fn lines(world: &World, known: &Known<'_>, pod: &Pod, of: PolicyType) -> Vec<Line> {
    let Known { name, policy, .. } = known;
    let is_subject = policy.subject.as_ref().is_some_and(|(namespaces, pods)| {
        let labels = world.namespaces.get(&pod.namespace);
        labels.is_some_and(|labels| namespaces.matches(labels)) && pods.matches(&pod.labels)
    });
    if !is_subject {
        return Vec::new();
    }
    let line = |(at, (one, rule)): (usize, (&AdminRule, &RuleSpec))| Line {
        policy: (*name).to_owned(),
        priority: policy.priority,
        at,
        name: one.name.clone(),
        action: one.action,
        rule: match of {
            PolicyType::Ingress => resolved(rule, pod),
            PolicyType::Egress => rule.clone(),
        },
    };
    known.rules(of).enumerate().map(line).collect()
}

/// None if no NetworkPolicy isolates the pod.
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
struct Sets(BTreeMap<Judged, usize>);

impl Sets {
    fn number(&mut self, by: Judged) -> usize {
        let next = self.0.len();
        *self.0.entry(by).or_insert(next)
    }

    /// Exact ones let nobody pass where not all `fits`.
    fn sets(&self, blocks: &BTreeSet<IpNet>, classes: &Classes<'_>, fits: bool) -> Vec<Set> {
        let mut sets = vec![Set::default(); self.0.len()];
        for (by, number) in &self.0 {
            sets[*number] = match by {
                Judged::ByPolicies(rules) => Set {
                    grants: grants(rules, blocks, classes),
                    ..Set::default()
                },
                Judged::ByTiers(tiers) if fits => exact::set(tiers, blocks, classes),
                Judged::ByTiers(_) => Set {
                    exact: true,
                    ..Set::default()
                },
            };
        }
        sets
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
        Some(PeerSpec::Nodes(_) | PeerSpec::Nobody) => Vec::new(),
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

//! By which rules the node's pods are held, as the programs have them.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::IpNet;
use serde::Serialize;
use vetch_ebpf_common::{
    Address, Peer, Pod, PolicyType, Protocol, Rule, RuleSet, policy::Lookup as _,
};
use vetch_policy::{Contents, Explained, ExplainedPart};

use crate::{
    Error, hooks,
    model::protocol_name,
    policy::{self, Rulebook},
};

/// How an address of this node's is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPod {
    pub address: IpAddr,
    /// The node's side of its link.
    pub ifindex: u32,
    /// `free`, `isolated`, or `pending` where it is not known yet.
    pub state: &'static str,
    /// The set of rules for what comes to it; None where all may.
    pub ingress_set: Option<u16>,
    pub ingress_rules: usize,
    /// And for what it sends.
    pub egress_set: Option<u16>,
    pub egress_rules: usize,
    /// Whether administrators' policies have a say in it.
    pub ingress_tiers: bool,
    pub egress_tiers: bool,
}

/// One of them with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPodDetail {
    #[serde(flatten)]
    pub pod: HeldPod,
    pub ingress: Vec<HeldRule>,
    pub egress: Vec<HeldRule>,
    /// Where administrators' policies have a say, and the daemon has written it.
    pub ingress_tiers: Option<HeldTiers>,
    pub egress_tiers: Option<HeldTiers>,
}

/// What tiers of policies make of the traffic in one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldTiers {
    /// The rules of administrators' policies, in the order in which they are asked.
    pub rules: Vec<String>,
    pub decided: Vec<HeldDecision>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldDecision {
    /// As of a [`HeldRule`]; `any` is everybody else.
    pub peer: String,
    pub addresses: Vec<IpAddr>,
    pub lets: bool,
    /// `all`, or protocols with their ports: `TCP 80,443 UDP others`.
    pub traffic: String,
    /// By which rule.
    pub by: String,
}

/// Whom it lets pass, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRule {
    /// `any`, `identity 7`, or a range whose smaller ranges have rules of their own.
    pub peer: String,
    /// The pods' addresses that have the identity.
    pub addresses: Vec<IpAddr>,
    /// None for every protocol, or for those below.
    pub protocol: Option<&'static str>,
    /// The numbers of the first and last of several.
    pub protocols: Option<[u8; 2]>,
    /// First and last; None for all.
    pub ports: Option<[u16; 2]>,
}

pub fn read(dir: &Path) -> Result<(BTreeMap<Address, Pod>, Contents), Error> {
    let pods = hooks::pods(dir).map_err(hooks::HooksError::from)?;
    Ok((pods, Rulebook::open(dir)?.held()?))
}

pub fn list(pods: &BTreeMap<Address, Pod>, contents: &Contents) -> Vec<HeldPod> {
    let one = |(address, pod): (&Address, &Pod)| held(IpAddr::from(*address), pod, contents);
    pods.iter().map(one).collect()
}

pub fn words(pin_dir: &Path) -> Explained {
    policy::words(pin_dir)
}

pub fn show(
    pods: &BTreeMap<Address, Pod>,
    contents: &Contents,
    words: &Explained,
    address: IpAddr,
) -> Option<HeldPodDetail> {
    let pod = pods.get(&Address::from(address))?;
    Some(HeldPodDetail {
        pod: held(address, pod, contents),
        ingress: rules(contents, PolicyType::Ingress, pod.ingress),
        egress: rules(contents, PolicyType::Egress, pod.egress),
        ingress_tiers: tiers(contents, words, PolicyType::Ingress, pod.ingress),
        egress_tiers: tiers(contents, words, PolicyType::Egress, pod.egress),
    })
}

fn tiers(contents: &Contents, words: &Explained, of: PolicyType, number: u16) -> Option<HeldTiers> {
    let set = words.set(of, number)?;
    let decided = set.peers.iter().flat_map(|one| {
        let of = Peer::from_bits(one.peer);
        one.parts.iter().map(move |part| HeldDecision {
            peer: peer(contents, of),
            addresses: addresses(contents, of),
            lets: part.lets,
            traffic: traffic(part),
            by: part.by.clone(),
        })
    });
    Some(HeldTiers {
        rules: set.order.clone(),
        decided: decided.collect(),
    })
}

fn traffic(part: &ExplainedPart) -> String {
    let is_all = |ranges: &Vec<[u16; 2]>| *ranges == [[0, u16::MAX]];
    if part.others && part.ports.len() == 3 && part.ports.values().all(is_all) {
        return "all".to_owned();
    }
    let mut words: Vec<String> = Vec::new();
    for (protocol, ranges) in &part.ports {
        words.extend(
            Protocol::try_from(*protocol)
                .ok()
                .map(|one| protocol_name(one).to_owned()),
        );
        if !is_all(ranges) {
            let ranges = ranges.iter().map(|[first, last]| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            });
            words.push(ranges.collect::<Vec<_>>().join(","));
        }
    }
    if part.others {
        words.push("others".to_owned());
    }
    words.join(" ")
}

fn held(address: IpAddr, pod: &Pod, contents: &Contents) -> HeldPod {
    let set = |number: u16| Some(number).filter(|number| *number != 0);
    let count = |of, number| rules_of(contents, of, number).count();
    HeldPod {
        address,
        ifindex: pod.ifindex,
        state: if pod.flags & Pod::POLICY_PENDING != 0 {
            "pending"
        } else if pod.is_held() {
            "isolated"
        } else {
            "free"
        },
        ingress_set: set(pod.ingress),
        ingress_rules: count(PolicyType::Ingress, pod.ingress),
        egress_set: set(pod.egress),
        egress_rules: count(PolicyType::Egress, pod.egress),
        ingress_tiers: pod.ingress & RuleSet::EXACT != 0,
        egress_tiers: pod.egress & RuleSet::EXACT != 0,
    }
}

fn rules_of(
    contents: &Contents,
    of: PolicyType,
    number: u16,
) -> impl Iterator<Item = &(u32, Rule)> {
    let set = RuleSet::new(of, number);
    let rules = contents.rules.iter();
    rules.filter(move |(_, rule)| Some(rule.set()) == set)
}

fn rules(contents: &Contents, of: PolicyType, number: u16) -> Vec<HeldRule> {
    rules_of(contents, of, number)
        .map(|(length, rule)| held_rule(contents, *length, rule))
        .collect()
}

fn held_rule(contents: &Contents, length: u32, rule: &Rule) -> HeldRule {
    HeldRule {
        peer: peer(contents, rule.peer()),
        addresses: addresses(contents, rule.peer()),
        protocol: Protocol::try_from(rule.protocol())
            .ok()
            .filter(|_| length >= Rule::PROTOCOL)
            .map(protocol_name),
        protocols: (Rule::ALL + 1..Rule::PROTOCOL).contains(&length).then(|| {
            [
                rule.protocol(),
                rule.protocol() | u8::MAX >> (length - Rule::ALL),
            ]
        }),
        ports: length
            .checked_sub(Rule::PROTOCOL)
            .filter(|fixed| *fixed != 0)
            .map(|fixed| {
                let rest = u32::from(u16::MAX) >> fixed;
                [rule.port(), rule.port() | rest as u16]
            }),
    }
}

/// The rule by which a set lets pass, in the order in which the programs ask, in words;
/// None where none does.
pub(super) fn letting(
    contents: &Contents,
    set: RuleSet,
    ip: IpAddr,
    protocol: u8,
    port: [u8; 2],
) -> Option<String> {
    let address = Address::from(ip);
    let (identity, block) = (contents.identity(&address), contents.block(&address));
    let peers = if set.is_exact() {
        [Some(most_specific(contents, ip)), None, None]
    } else {
        [
            Some(Peer::ANY),
            (identity != 0).then_some(Peer::identity(identity)),
            (block != 0).then_some(Peer::block(block)),
        ]
    };
    let port = u16::from_be_bytes(port);
    let matches = |length: u32, rule: &Rule| {
        let Some(bits) = length.checked_sub(Rule::PROTOCOL) else {
            let fixed = !(u8::MAX >> (length - Rule::ALL));
            return rule.protocol() == protocol & fixed;
        };
        let fixed = u32::from(u16::MAX) << (16 - bits.min(16));
        rule.protocol() == protocol && rule.port() == port & fixed as u16
    };
    let found = peers.into_iter().flatten().find_map(|peer| {
        let rules = contents.rules.iter().rev();
        let mut own = rules.filter(|(_, rule)| rule.set() == set && rule.peer() == peer);
        own.find(|(length, rule)| matches(*length, rule))
    });
    let (length, rule) = found?;
    let held = held_rule(contents, *length, rule);
    let protocol = match (held.protocol, held.protocols) {
        (Some(name), _) => format!(", {name}"),
        (None, Some([first, last])) => format!(", protocols {first}-{last}"),
        (None, None) => String::new(),
    };
    let ports = match held.ports {
        None => String::new(),
        Some([first, last]) if first == last => format!(" {first}"),
        Some([first, last]) => format!(" {first}-{last}"),
    };
    Some(format!("{}{protocol}{ports}", held.peer))
}

/// Whom an exact set takes the address for.
pub(super) fn most_specific(contents: &Contents, ip: IpAddr) -> Peer {
    let address = Address::from(ip);
    match (contents.identity(&address), contents.block(&address)) {
        (0, 0) => Peer::ANY,
        (0, block) => Peer::block(block),
        (identity, _) => Peer::identity(identity),
    }
}

fn peer(contents: &Contents, peer: Peer) -> String {
    if peer == Peer::ANY {
        return "any".to_owned();
    }
    let Some(block) = peer.as_block() else {
        return format!("identity {}", peer.bits());
    };
    let range = contents.blocks.iter().find(|(_, number)| **number == block);
    range.map_or_else(
        || format!("block {block}"),
        |(range, _): (&IpNet, _)| range.to_string(),
    )
}

fn addresses(contents: &Contents, peer: Peer) -> Vec<IpAddr> {
    let having = contents.identities.iter();
    having
        .filter(|(_, number)| peer != Peer::ANY && Peer::identity(**number) == peer)
        .map(|(ip, _)| *ip)
        .collect()
}

#[cfg(test)]
mod tests {
    use vetch_policy::{ExplainedPeer, ExplainedSet};

    use super::*;

    #[test]
    fn rules_are_shown_with_whom_they_are_about() {
        let (one, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let set = RuleSet::new(PolicyType::Ingress, 3).unwrap();
        let rule = |length, peer, protocol, port: u16| {
            (length, Rule::new(set, peer, protocol, port.to_be_bytes()))
        };
        let contents = Contents {
            identities: [(one, 7), (other, 8)].into(),
            blocks: [("192.0.2.0/24".parse().unwrap(), 7)].into(),
            rules: [
                rule(Rule::ALL, Peer::block(7), 0, 0),
                rule(Rule::PROTOCOL, Peer::ANY, 17, 0),
                rule(Rule::PORT - 3, Peer::identity(7), 6, 8080),
            ]
            .into(),
            ..Contents::default()
        };
        let pod = |ingress, flags| Pod {
            ingress,
            flags,
            ifindex: 5,
            ..Pod::default()
        };
        let pods = BTreeMap::from([
            (Address::from(one), pod(3, 0)),
            (Address::from(other), pod(0, Pod::POLICY_PENDING)),
        ]);
        let listed = list(&pods, &contents);
        let states: Vec<_> = listed
            .iter()
            .map(|pod| {
                (
                    pod.state,
                    pod.ingress_set,
                    pod.ingress_rules,
                    pod.egress_set,
                )
            })
            .collect();
        assert_eq!(
            states,
            [("isolated", Some(3), 3, None), ("pending", None, 0, None)]
        );
        let shown = show(&pods, &contents, &Explained::default(), one).unwrap();
        let rules: Vec<_> = shown
            .ingress
            .iter()
            .map(|rule| {
                (
                    rule.peer.as_str(),
                    rule.addresses.len(),
                    rule.protocol,
                    rule.ports,
                )
            })
            .collect();
        assert_eq!(
            rules,
            [
                ("192.0.2.0/24", 0, None, None),
                ("any", 0, Some("UDP"), None),
                ("identity 7", 1, Some("TCP"), Some([8080, 8087])),
            ]
        );
        let nobody = show(
            &pods,
            &contents,
            &Explained::default(),
            "10.0.0.9".parse().unwrap(),
        );
        assert_eq!(nobody, None);
    }

    #[test]
    fn tiers_are_shown_with_their_rules() {
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let number = 3 | RuleSet::EXACT;
        let set = RuleSet::new(PolicyType::Egress, number).unwrap();
        let contents = Contents {
            identities: [(one, 7)].into(),
            // Protocols 128 to 255.
            rules: [(
                Rule::ALL + 1,
                Rule::new(set, Peer::identity(7), 128, [0; 2]),
            )]
            .into(),
            ..Contents::default()
        };
        let part = |lets, by: &str, ports: &[(u8, &[[u16; 2]])], others| ExplainedPart {
            lets,
            by: by.into(),
            ports: ports.iter().map(|(of, all)| (*of, all.to_vec())).collect(),
            others,
        };
        let whole: &[[u16; 2]] = &[[0, u16::MAX]];
        let parts = vec![
            part(
                false,
                "rule 1",
                &[(6, &[[80, 80], [90, 99]]), (17, whole)],
                true,
            ),
            part(true, "rule 2", &[(132, whole)], false),
        ];
        let everything = part(true, "none", &[(6, whole), (17, whole), (132, whole)], true);
        let words = Explained {
            sets: vec![ExplainedSet {
                egress: true,
                number,
                order: vec!["rule 1".into()],
                peers: vec![
                    ExplainedPeer {
                        peer: Peer::identity(7).bits(),
                        parts,
                    },
                    ExplainedPeer {
                        peer: Peer::ANY.bits(),
                        parts: vec![everything],
                    },
                ],
            }],
        };
        let pod = Pod {
            egress: number,
            ..Pod::default()
        };
        let pods = BTreeMap::from([(Address::from(one), pod)]);
        let shown = show(&pods, &contents, &words, one).unwrap();
        assert!(shown.pod.egress_tiers && !shown.pod.ingress_tiers);
        assert_eq!(shown.egress[0].protocols, Some([128, 255]));
        assert_eq!(shown.ingress_tiers, None);
        let tiers = shown.egress_tiers.unwrap();
        assert_eq!(tiers.rules, ["rule 1"]);
        let decided: Vec<_> = tiers
            .decided
            .iter()
            .map(|one| (one.peer.as_str(), one.lets, one.traffic.as_str()))
            .collect();
        assert_eq!(
            decided,
            [
                ("identity 7", false, "TCP 80,90-99 UDP others"),
                ("identity 7", true, "SCTP"),
                ("any", true, "all"),
            ]
        );
        assert_eq!(most_specific(&contents, one), Peer::identity(7));
        let by = letting(&contents, set, one, 200, [0; 2]);
        assert_eq!(by.as_deref(), Some("identity 7, protocols 128-255"));
        assert_eq!(letting(&contents, set, one, 1, [0; 2]), None);
    }
}

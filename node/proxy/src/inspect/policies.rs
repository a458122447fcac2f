//! By which rules the node's pods are held, as the programs have them.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::IpNet;
use serde::Serialize;
use vetch_ebpf_common::{
    Address, Peer, Pod, PolicyType, Protocol, Rule, RuleSet, policy::Lookup as _,
};
use vetch_policy::Contents;

use crate::{Error, hooks, model::protocol_name, policy::Rulebook};

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
}

/// One of them with its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPodDetail {
    #[serde(flatten)]
    pub pod: HeldPod,
    pub ingress: Vec<HeldRule>,
    pub egress: Vec<HeldRule>,
}

/// Whom it lets pass, and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRule {
    /// `any`, `identity 7`, or a range whose smaller ranges have rules of their own.
    pub peer: String,
    /// The pods' addresses that have the identity.
    pub addresses: Vec<IpAddr>,
    /// None for every protocol.
    pub protocol: Option<&'static str>,
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

pub fn show(
    pods: &BTreeMap<Address, Pod>,
    contents: &Contents,
    address: IpAddr,
) -> Option<HeldPodDetail> {
    let pod = pods.get(&Address::from(address))?;
    Some(HeldPodDetail {
        pod: held(address, pod, contents),
        ingress: rules(contents, PolicyType::Ingress, pod.ingress),
        egress: rules(contents, PolicyType::Egress, pod.egress),
    })
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
    let peers = [
        Some(Peer::ANY),
        (identity != 0).then_some(Peer::identity(identity)),
        (block != 0).then_some(Peer::block(block)),
    ];
    let port = u16::from_be_bytes(port);
    let matches = |length: u32, rule: &Rule| {
        let Some(bits) = length.checked_sub(Rule::PROTOCOL) else {
            return true;
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
    let protocol = held
        .protocol
        .map_or_else(String::new, |name| format!(", {name}"));
    let ports = match held.ports {
        None => String::new(),
        Some([first, last]) if first == last => format!(" {first}"),
        Some([first, last]) => format!(" {first}-{last}"),
    };
    Some(format!("{}{protocol}{ports}", held.peer))
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
        let shown = show(&pods, &contents, one).unwrap();
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
        assert_eq!(show(&pods, &contents, "10.0.0.9".parse().unwrap()), None);
    }
}

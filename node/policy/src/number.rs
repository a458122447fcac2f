//! Numbers for what is wanted, those that the kernel has already where that is
//! possible.
//!
//! A set, class or block keeps a number if all who have that number now are in it, and
//! nobody in it has another. Then the number means to everybody who uses it what it is
//! to mean, as soon as its rules are right; any other gets one that nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use vetch_ebpf_common::{Peer, PolicyType, Rule, RuleSet};

use crate::{Contents, Held, Ports, Wanted, Who};

pub fn number(wanted: &Wanted, now: &Contents) -> Contents {
    let sets = [PolicyType::Ingress, PolicyType::Egress].map(|of| sets(wanted, now, of));
    let identities = identities(wanted, now);
    let blocks = blocks(wanted, now);
    let mut contents = Contents::default();
    for (ip, held) in &wanted.pods {
        if let Held::Rules { ingress, egress } = held {
            let [of_ingress, of_egress] = &sets;
            let numbers = [
                ingress.map_or(0, |set| of_ingress[set]),
                egress.map_or(0, |set| of_egress[set]),
            ];
            contents.pods.insert(*ip, numbers);
        }
    }
    let identified = wanted.identities.iter();
    contents.identities = identified
        .map(|(ip, class)| (*ip, identities[*class]))
        .collect();
    for (of, numbers) in [PolicyType::Ingress, PolicyType::Egress]
        .into_iter()
        .zip(&sets)
    {
        for (wanted, number) in wanted.sets(of).iter().zip(numbers) {
            let Some(set) = RuleSet::new(of, *number) else {
                continue;
            };
            contents.rules.extend(wanted.grants.iter().map(|grant| {
                let peer = match grant.who {
                    Who::Anybody => Peer::ANY,
                    Who::Class(class) => Peer::identity(identities[class]),
                    Who::Block(range) => Peer::block(blocks[&range]),
                };
                rule(set, peer, grant.ports)
            }));
        }
    }
    contents.blocks = blocks;
    contents
}

fn rule(set: RuleSet, peer: Peer, ports: Ports) -> (u32, Rule) {
    let rule = |protocol, port: u16| Rule::new(set, peer, protocol, port.to_be_bytes());
    match ports {
        Ports::All => (Rule::ALL, rule(0, 0)),
        Ports::Protocols(first, bits) => (Rule::ALL + u32::from(bits), rule(first, 0)),
        Ports::Protocol(protocol) => (Rule::PROTOCOL, rule(protocol as u8, 0)),
        Ports::Prefix(protocol, port, length) => (
            Rule::PROTOCOL + u32::from(length),
            rule(protocol as u8, port),
        ),
    }
}

/// Exact sets have numbers of their own, told by a bit.
fn sets(wanted: &Wanted, now: &Contents, of: PolicyType) -> Vec<u16> {
    let own = |numbers: &[u16; 2]| numbers[of as usize];
    let set_of = |held: &Held| match held {
        Held::Rules { ingress, egress } => match of {
            PolicyType::Ingress => *ingress,
            PolicyType::Egress => *egress,
        },
        Held::Pending => None,
    };
    // Who has which number, and what it is to be in. Whoever is free from now on, or
    // unknown, has a say as well: the number means another thing to it.
    let held = wanted.pods.iter();
    let held: Vec<(u16, Option<usize>)> = held
        .filter_map(|(ip, held)| Some((own(now.pods.get(ip)?), set_of(held))))
        .collect();
    let in_rules = now.rules.iter().map(|(_, rule)| rule.set());
    let in_rules = in_rules.filter(|set| set.of() == of);
    let in_rules = in_rules.map(|set| set.number());
    let used: Vec<u16> = now.pods.values().map(own).chain(in_rules).collect();
    let is_exact = |set: usize| wanted.sets(of)[set].exact;
    // Sets whose pods come from one of the other kind: new to these, whoever else is in.
    let joined: BTreeSet<usize> = held
        .iter()
        .filter(|(number, _)| *number != 0)
        .filter_map(|(number, set)| Some((number & RuleSet::EXACT != 0, (*set)?)))
        .filter(|(exact, set)| *exact != is_exact(*set))
        .map(|(_, set)| set)
        .collect();
    let mut all = vec![0; wanted.sets(of).len()];
    for bit in [0, RuleSet::EXACT] {
        let such: Vec<usize> = (0..all.len())
            .filter(|set| is_exact(*set) == (bit != 0))
            .collect();
        // Without the bit; None for a number of the other kind.
        let plain = |number: u16| {
            let plain = u32::from(number & !RuleSet::EXACT);
            (number & RuleSet::EXACT == bit).then_some(plain)
        };
        let place = |set: &usize| such.iter().position(|one| one == set);
        let held = held.iter().filter_map(|(number, set)| {
            let stays = set.filter(|set| !joined.contains(set));
            Some((plain(*number)?, stays.as_ref().and_then(place)))
        });
        let used = used.iter().filter_map(|number| plain(*number)).collect();
        let numbers = claim(such.len(), held, &used);
        for (set, number) in such.into_iter().zip(numbers) {
            // A node has fewer pods.
            let number = u16::try_from(number)
                .ok()
                .filter(|one| *one < RuleSet::EXACT);
            all[set] = number.map_or(0, |number| number | bit);
        }
    }
    all
}

fn identities(wanted: &Wanted, now: &Contents) -> Vec<u32> {
    let classes = wanted.identities.values().max().map_or(0, |last| last + 1);
    let held = now.identities.iter();
    let held = held.map(|(ip, number)| (*number, wanted.identities.get(ip).copied()));
    let peers = now.rules.iter().map(|(_, rule)| rule.peer());
    let in_rules = peers.filter(|peer| peer.as_block().is_none());
    let used = now.identities.values().copied();
    let used = used.chain(in_rules.map(Peer::bits)).collect();
    claim(classes, held, &used)
}

fn blocks(wanted: &Wanted, now: &Contents) -> BTreeMap<IpNet, u32> {
    let held = wanted
        .blocks
        .iter()
        .enumerate()
        .filter_map(|(at, range)| Some((*now.blocks.get(range)?, Some(at))));
    let in_rules = now
        .rules
        .iter()
        .filter_map(|(_, rule)| rule.peer().as_block());
    let used = now.blocks.values().copied().chain(in_rules).collect();
    let numbers = claim(wanted.blocks.len(), held, &used);
    wanted.blocks.iter().copied().zip(numbers).collect()
}

/// A number for each of so many. `held` has who uses which now, and what each of
/// them is to be in; none of those in `used` is given to anybody else. From 1 on.
fn claim(
    count: usize,
    held: impl Iterator<Item = (u32, Option<usize>)>,
    used: &BTreeSet<u32>,
) -> Vec<u32> {
    // By number; None once two disagree.
    let mut claims: BTreeMap<u32, Option<usize>> = BTreeMap::new();
    for (number, of) in held.filter(|(number, _)| *number != 0) {
        let claim = claims.entry(number).or_insert(of);
        if *claim != of {
            *claim = None;
        }
    }
    let mut numbers = vec![0; count];
    let mut joined = BTreeSet::new();
    for (number, of) in claims {
        let Some(of) = of else { continue };
        if numbers[of] != 0 {
            joined.insert(of);
        }
        numbers[of] = number;
    }
    for of in joined {
        numbers[of] = 0;
    }
    let mut free = (1..).filter(|number| !used.contains(number));
    for number in numbers.iter_mut().filter(|number| **number == 0) {
        // There are more numbers than anybody uses.
        *number = free.next().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_where_all_who_have_one_stay_together() {
        type Case = (
            &'static str,
            usize,
            &'static [(u32, Option<usize>)],
            &'static [u32],
            &'static [u32],
        );
        let table: [Case; 7] = [
            ("nobody yet", 2, &[], &[], &[1, 2]),
            (
                "as it was",
                2,
                &[(4, Some(1)), (2, Some(0))],
                &[2, 4],
                &[2, 4],
            ),
            ("parted", 2, &[(1, Some(0)), (1, Some(1))], &[1], &[2, 3]),
            ("joined", 1, &[(1, Some(0)), (2, Some(0))], &[1, 2], &[3]),
            ("one left", 1, &[(1, Some(0)), (1, None)], &[1], &[2]),
            ("nobody's number", 1, &[(0, Some(0))], &[0], &[1]),
            ("still in rules", 1, &[], &[1, 3], &[2]),
        ];
        for (what, count, held, used, expected) in table {
            let used = used.iter().copied().collect();
            let numbers = claim(count, held.iter().copied(), &used);
            assert_eq!(numbers, expected, "{what}");
        }
    }
}

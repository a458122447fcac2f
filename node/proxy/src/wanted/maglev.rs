//! The lookup table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): which
//! backend a client's hash leads to, the same on every node, and for nearly
//! every client the same after a backend has come or gone.
//!
//! Every backend has a permutation of the table's places, from two hashes of
//! its address; in turns each takes the first of its places that is free. Who
//! weighs more has more turns.

use std::net::IpAddr;

use crate::model::Backend;

/// Primes, so that every step visits every place; just below powers of two,
/// the sizes of blocks of slots.
const SIZES: [usize; 4] = [251, 1021, 4093, 16381];
/// Places of each turn: shares differ by one place, so by 1 %.
const PLACES: usize = 100;

/// `turns` has each backend as often as its weight asks for, those of one in a
/// row. A turn is worth about [`PLACES`] places or more, up to the largest
/// table. Two neighbouring numbers of turns with tables of different sizes share
/// few clients; a single backend needs no table.
pub fn table(turns: &[Backend]) -> Vec<Backend> {
    if turns.len() < 2 {
        return turns.to_vec();
    }
    let size = size(turns.len());
    let mut walks: Vec<(usize, Walk)> = Vec::new();
    for turns in turns.chunk_by(|one, next| one == next) {
        walks.push((turns.len(), Walk::new(turns[0], size)));
    }
    let mut table: Vec<Option<Backend>> = vec![None; size];
    let mut left = size;
    while left > 0 {
        for (turns, walk) in &mut walks {
            for _ in 0..(*turns).min(left) {
                let free = walk.find(|place| table[*place].is_none());
                if let Some(place) = free {
                    table[place] = Some(walk.backend);
                    left -= 1;
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

fn size(turns: usize) -> usize {
    let [.., largest] = SIZES;
    let enough = |size: &usize| *size >= turns * PLACES;
    SIZES.into_iter().find(enough).unwrap_or(largest)
}

/// Through all places of a table.
struct Walk {
    backend: Backend,
    at: usize,
    step: usize,
    size: usize,
}

impl Walk {
    fn new(backend: Backend, size: usize) -> Self {
        let below = |hash: u64, limit: usize| (hash % limit as u64) as usize;
        Self {
            backend,
            at: below(hash(backend, 1), size),
            step: below(hash(backend, 2), size - 1) + 1,
            size,
        }
    }
}

impl Iterator for Walk {
    type Item = usize;

    /// Without end: round and round.
    fn next(&mut self) -> Option<usize> {
        let place = self.at;
        self.at = (self.at + self.step) % self.size;
        Some(place)
    }
}

/// A change here moves nearly every client of every such service, and until
/// all nodes have it they disagree.
fn hash(backend: Backend, seed: u64) -> u64 {
    let addr = match backend.addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let addr = u128::from(addr);
    let words = [(addr >> 64) as u64, addr as u64, backend.port.into()];
    words
        .into_iter()
        .fold(seed, |hash, word| mix(hash ^ mix(word)))
}

/// SplitMix64's step: every bit of the input turns about half of the output's.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use super::*;

    fn backends(count: u32) -> Vec<Backend> {
        let addr = |at: u32| Ipv4Addr::from_bits(0x0af4_0001 + at).into();
        (0..count)
            .map(|at| Backend {
                addr: addr(at),
                port: 8080,
            })
            .collect()
    }

    fn shares(table: &[Backend]) -> BTreeMap<Backend, usize> {
        let mut shares = BTreeMap::new();
        for backend in table {
            *shares.entry(*backend).or_default() += 1;
        }
        shares
    }

    #[test]
    fn the_table_grows_with_the_backends() {
        for (count, expected) in [
            (0, 0),
            (1, 1),
            (2, 251),
            (3, 1021),
            (10, 1021),
            (11, 4093),
            (40, 4093),
            (41, 16381),
            (163, 16381),
            (5000, 16381),
            (20_000, 16381),
        ] {
            assert_eq!(table(&backends(count)).len(), expected, "{count}");
        }
    }

    #[test]
    fn sizes_are_primes_that_fill_their_blocks() {
        for size in SIZES {
            assert!((2..size).all(|divisor| size % divisor != 0), "{size}");
            assert!(size.next_power_of_two() - size <= 5, "{size}");
        }
    }

    #[test]
    fn every_backend_has_its_share() {
        for count in [2, 3, 10, 11, 40, 100, 163, 1000] {
            let backends = backends(count);
            let table = table(&backends);
            let shares = shares(&table);
            assert_eq!(shares.len(), backends.len());
            let fair = table.len() as f64 / f64::from(count);
            for (backend, share) in shares {
                let off = (share as f64 - fair).abs();
                assert!(off < 1.0, "{backend} of {count}: {share} of {fair}");
            }
        }
    }

    /// Clients of the backend that left must move, and few others should.
    #[test]
    fn a_backend_that_leaves_moves_its_own_clients() {
        for count in [4, 10, 20, 40, 60, 150] {
            let backends = backends(count);
            let before = table(&backends);
            for leaver in [0, count / 2, count - 1] {
                let mut left = backends.clone();
                let gone = left.remove(leaver as usize);
                let after = table(&left);
                assert_eq!(before.len(), after.len(), "{count}: not the same table");
                let pairs = || before.iter().zip(&after);
                let own = pairs().filter(|(old, _)| **old == gone).count();
                let moved = pairs().filter(|(old, new)| old != new).count();
                let others = (moved - own) as f64 / before.len() as f64;
                assert!(
                    others < 0.04,
                    "{count} - {leaver}: {others:.3} of the others"
                );
            }
        }
    }

    #[test]
    fn clients_move_to_all_that_are_left() {
        let backends = backends(10);
        let before = table(&backends);
        let after = table(&backends[1..]);
        let heirs: Vec<Backend> = before
            .iter()
            .zip(&after)
            .filter(|(old, _)| **old == backends[0])
            .map(|(_, new)| *new)
            .collect();
        let shares = shares(&heirs);
        assert_eq!(shares.len(), 9);
        assert!(shares.values().all(|share| *share < 25), "{shares:?}");
    }

    #[test]
    fn shares_are_in_proportion_to_the_turns() {
        for weights in [&[1, 3][..], &[5, 1, 1], &[10, 7, 2, 1]] {
            let backends = backends(weights.len() as u32);
            let turns: Vec<Backend> = backends
                .iter()
                .zip(weights)
                .flat_map(|(backend, weight)| std::iter::repeat_n(*backend, *weight))
                .collect();
            let table = table(&turns);
            let shares = shares(&table);
            let turn = table.len() as f64 / turns.len() as f64;
            for (backend, weight) in backends.iter().zip(weights) {
                let fair = turn * *weight as f64;
                let off = (shares[backend] as f64 - fair).abs();
                assert!(off <= *weight as f64, "{weights:?}: {off} off {fair}");
            }
        }
    }

    /// Clients move to the one that weighs more now, and few between others.
    #[test]
    fn a_change_of_weight_moves_clients_to_the_heavier() {
        let backends = backends(8);
        let before = table(&backends);
        let mut turns = backends.clone();
        turns.insert(3, backends[3]);
        let after = table(&turns);
        assert_eq!(before.len(), after.len());
        let moved = before.iter().zip(&after).filter(|(old, new)| old != new);
        let astray = moved.filter(|(_, new)| **new != backends[3]).count();
        let astray = astray as f64 / before.len() as f64;
        assert!(astray < 0.06, "{astray:.3}");
    }

    #[test]
    fn ports_and_families_count() {
        let backend = |addr: &str, port| Backend {
            addr: addr.parse().unwrap(),
            port,
        };
        let pairs = [
            [backend("10.0.0.1", 80), backend("10.0.0.1", 81)],
            [backend("fd00::1", 80), backend("fd00::2", 80)],
        ];
        for pair in pairs {
            let shares = shares(&table(&pair));
            assert_eq!(shares.values().sum::<usize>(), 251);
            assert!(shares.values().all(|share| [125, 126].contains(share)));
        }
    }

    /// Nodes of two versions of Vetch send a client to the same backend.
    #[test]
    fn the_table_is_what_it_was() {
        let table = table(&backends(3));
        let print = |backend: &Backend| match backend.addr {
            IpAddr::V4(v4) => v4.octets()[3].to_string(),
            IpAddr::V6(_) => unreachable!(),
        };
        let start: String = table.iter().take(40).map(print).collect();
        assert_eq!(start, "1213113233232131132312322311223133221112");
    }
}

//! Which of a list's slots a client gets.

use crate::Address;

/// The slot that a seed stands for, of `count`; each for as many seeds.
#[inline(always)]
pub const fn one_of(seed: u32, count: u32) -> u32 {
    (seed as u64 * count as u64 >> 32) as u32
}

/// The same client, the same seed; its high bits count.
#[inline(always)]
pub const fn client_seed(client: Address) -> u32 {
    let [high, low] = client.words();
    ((high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Two different ones, where there are two.
#[inline(always)]
pub const fn two_of([first, second]: [u32; 2], count: u32) -> [u32; 2] {
    let first = one_of(first, count);
    if count < 2 {
        return [first, first];
    }
    let second = one_of(second, count - 1);
    [first, second + (second >= first) as u32]
}

/// Of two that are as good, the first; it was drawn like the other. A count
/// that is below zero is one that was not seen in full.
#[inline(always)]
pub const fn second_is_idler([first, second]: [i64; 2]) -> bool {
    second < first && first > 0
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const SEEDS: [u32; 6] = [0, 1, 1 << 30, 1 << 31, u32::MAX - 1, u32::MAX];

    #[test]
    fn a_slot_is_one_of_the_lists() {
        for count in [1, 2, 3, 7, 65_535] {
            for seed in SEEDS {
                assert!(one_of(seed, count) < count);
            }
            assert_eq!((one_of(0, count), one_of(u32::MAX, count)), (0, count - 1));
        }
    }

    #[test]
    fn two_slots_differ_where_there_are_two() {
        for count in [1, 2, 3, 7, 65_535] {
            for first in SEEDS {
                for second in SEEDS {
                    let [one, other] = two_of([first, second], count);
                    assert!(one < count && other < count);
                    assert_eq!(one != other, count > 1, "{first} {second} of {count}");
                }
            }
        }
        // Every pair, as often as each other.
        let step = u32::MAX / 6;
        let mut pairs: Vec<[u32; 2]> = (0..36)
            .map(|n| two_of([step * (n / 6) + 9, step * (n % 6) + 9], 3))
            .collect();
        pairs.sort_unstable();
        for pair in pairs.chunks(6) {
            assert!(pair.iter().all(|other| *other == pair[0]), "{pairs:?}");
        }
    }

    #[test]
    fn the_one_with_fewer_connections_is_taken() {
        for (live, second) in [
            ([0, 0], false),
            ([1, 0], true),
            ([0, 1], false),
            ([5, 5], false),
            ([5, 4], true),
            ([4, 5], false),
            ([i64::MAX, i64::MAX - 1], true),
            // Below zero is no better than zero.
            ([0, -3], false),
            ([-3, -5], false),
            ([1, -3], true),
        ] {
            assert_eq!(second_is_idler(live), second, "{live:?}");
        }
    }
}

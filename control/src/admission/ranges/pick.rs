//! Which free number a service gets.

use rand::Rng;

/// A random free number of `dynamic..size`, and of what is below only when those are all taken.
pub fn pick(
    (size, dynamic): (u64, u64),
    random: &mut impl Rng,
    free: impl Fn(u64) -> bool,
) -> Option<u64> {
    [(dynamic, size), (0, dynamic)]
        .into_iter()
        .filter(|(from, to)| from < to)
        .find_map(|(from, to)| {
            let start = random.random_range(from..to);
            (start..to).chain(from..start).find(|index| free(*index))
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_is_given_once_and_the_lower_ones_last() {
        let mut taken = BTreeSet::new();
        let mut random = rand::rng();
        for round in 0..40 {
            let index = pick((40, 16), &mut random, |index| !taken.contains(&index)).unwrap();
            assert_eq!(index >= 16, round < 24, "round {round} gave {index}");
            assert!(taken.insert(index));
        }
        assert_eq!(
            pick((40, 16), &mut random, |index| !taken.contains(&index)),
            None
        );
    }

    #[test]
    fn an_empty_range_gives_nothing() {
        assert_eq!(pick((0, 0), &mut rand::rng(), |_| true), None);
    }
}

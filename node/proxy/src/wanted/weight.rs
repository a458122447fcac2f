//! How many of a service-port's new clients a backend gets beside the others.

use std::str::FromStr;

use crate::model::Backend;

/// Of the endpoints of a slice: one of weight 3 gets three clients where one of
/// weight 1 gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u8);

impl Weight {
    const MOST: u8 = 100;
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

/// Neither of 1 to 100.
#[derive(Debug, PartialEq, Eq)]
pub struct NoWeight;

impl FromStr for Weight {
    type Err = NoWeight;

    fn from_str(text: &str) -> Result<Self, NoWeight> {
        let weight = text.parse().map_err(|_| NoWeight)?;
        if (1..=Self::MOST).contains(&weight) {
            Ok(Self(weight))
        } else {
            Err(NoWeight)
        }
    }
}

/// Beyond so many turns weights are rounded: each turn of random choice is a
/// slot, and a table of Maglev has room for few.
const MOST_TURNS: usize = 4096;

/// Each backend as often as it has turns, in the given order: in proportion to
/// the weights, and no more than that takes. Each has one at least, and where
/// there are more backends than [`MOST_TURNS`] no more than one.
pub fn turns(backends: &[(Backend, Weight)]) -> Vec<Backend> {
    let weights = || backends.iter().map(|(_, weight)| weight.0);
    let divisor = weights().fold(0, gcd);
    let all: usize = weights().map(|weight| usize::from(weight / divisor)).sum();
    let turns = |weight: u8| {
        let turns = usize::from(weight / divisor);
        if backends.len() > MOST_TURNS {
            1
        } else if all > MOST_TURNS {
            (turns * MOST_TURNS / all).max(1)
        } else {
            turns
        }
    };
    backends
        .iter()
        .flat_map(|(backend, weight)| std::iter::repeat_n(*backend, turns(weight.0)))
        .collect()
}

/// Of two numbers of which one may be 0.
fn gcd(a: u8, b: u8) -> u8 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(weights: &[u8]) -> Vec<(Backend, Weight)> {
        let backend = |(at, weight): (usize, &u8)| {
            let backend = Backend {
                addr: [10, 0, 0, 1].into(),
                port: at as u16,
            };
            (backend, Weight(*weight))
        };
        weights.iter().enumerate().map(backend).collect()
    }

    fn counts(weights: &[u8]) -> Vec<usize> {
        let turns = turns(&backends(weights));
        let count = |port| turns.iter().filter(|turn| turn.port == port).count();
        (0..weights.len() as u16).map(count).collect()
    }

    #[test]
    fn weights_are_whole_numbers_to_100() {
        for (text, weight) in [
            ("1", Some(1)),
            ("100", Some(100)),
            ("07", Some(7)),
            ("0", None),
            ("101", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            (" 1", None),
            ("ten", None),
            ("300", None),
        ] {
            assert_eq!(text.parse().ok(), weight.map(Weight), "{text:?}");
        }
    }

    #[test]
    fn turns_are_as_few_as_the_weights_allow() {
        for (weights, expected) in [
            (&[][..], &[][..]),
            (&[1], &[1]),
            (&[50], &[1]),
            (&[1, 1, 1], &[1, 1, 1]),
            (&[100, 100], &[1, 1]),
            (&[1, 3], &[1, 3]),
            (&[20, 30, 10], &[2, 3, 1]),
            (&[100, 99], &[100, 99]),
        ] {
            assert_eq!(counts(weights), expected, "{weights:?}");
        }
    }

    #[test]
    fn turns_are_bounded_and_nobody_is_left_without() {
        let mut weights = vec![100; 60];
        weights[0] = 1;
        let counts = counts(&weights);
        assert_eq!(counts[0], 1);
        assert!(counts[1..].iter().all(|count| *count == 69), "{counts:?}");

        let many: Vec<u8> = (0..5000).map(|at: u32| 1 + (at % 2) as u8).collect();
        assert_eq!(turns(&backends(&many)).len(), 5000);
    }
}

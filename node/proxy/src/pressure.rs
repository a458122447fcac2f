//! How full the tables are, and when that is worth a word. Pure.

use std::collections::BTreeSet;

use vetch_ebpf_common::{Sweep, maps};

/// A table of the programs'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub entries: u32,
    pub capacity: u32,
}

/// Above so many percent a table is under pressure…
const HIGH: u64 = 90;
/// …until it is down here: one that lingers at the limit changes nothing.
const LOW: u64 = 80;

/// Full is its usual state: who of the sockets in it is closed cannot be told,
/// so that they stay until they are the least used.
const KEEPS_THE_DEAD: [&str; 1] = [maps::REVERSE];

/// Of the tables that the programs fill.
pub fn filled(sweep: &Sweep) -> [(&'static str, u32); 5] {
    [
        (maps::FLOWS, sweep.flows()),
        (maps::AFFINITY, sweep.affinity),
        (maps::FRAGMENTS, sweep.fragments),
        (maps::REVERSE, sweep.reverse),
        (maps::TRAFFIC, sweep.traffic),
    ]
}

/// Which tables are under pressure, after those that were.
pub fn pressed(tables: &[Table], before: &BTreeSet<&'static str>) -> BTreeSet<&'static str> {
    let is_pressed = |table: &&Table| {
        let limit = if before.contains(table.name) {
            LOW
        } else {
            HIGH
        };
        !KEEPS_THE_DEAD.contains(&table.name)
            && u64::from(table.entries) * 100 > u64::from(table.capacity) * limit
    };
    let pressed = tables.iter().filter(is_pressed);
    pressed.map(|table| table.name).collect()
}

/// For people; None where no table is.
pub fn message(tables: &[Table], pressed: &BTreeSet<&'static str>) -> Option<String> {
    let named: Vec<String> = tables
        .iter()
        .filter(|table| pressed.contains(table.name))
        .map(|table| format!("{} {} of {}", table.name, table.entries, table.capacity))
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_has_two_limits() {
        let table = |name, entries| Table {
            name,
            entries,
            capacity: 1000,
        };
        let (flows, affinity) = (maps::FLOWS, maps::AFFINITY);
        for (what, entries, before, after) in [
            ("room", 500, false, false),
            ("at the limit", 900, false, false),
            ("above it", 901, false, true),
            ("falling", 801, true, true),
            ("down", 800, true, false),
            ("rising again", 850, false, false),
            ("full", 1000, true, true),
        ] {
            let set = |pressed| BTreeSet::from_iter(if pressed { Some(flows) } else { None });
            let tables = [table(flows, entries), table(affinity, 10)];
            assert_eq!(pressed(&tables, &set(before)), set(after), "{what}");
        }
    }

    #[test]
    fn what_keeps_the_dead_is_never_under_pressure() {
        let table = Table {
            name: maps::REVERSE,
            entries: 1000,
            capacity: 1000,
        };
        assert!(pressed(&[table], &BTreeSet::new()).is_empty());
    }

    #[test]
    fn the_word_names_the_tables() {
        let tables = [
            Table {
                name: maps::FLOWS,
                entries: 91,
                capacity: 100,
            },
            Table {
                name: maps::SLOTS,
                entries: 1 << 20,
                capacity: 1 << 20,
            },
            Table {
                name: maps::FRONTENDS,
                entries: 1,
                capacity: 100,
            },
        ];
        let under = pressed(&tables, &BTreeSet::new());
        assert_eq!(
            message(&tables, &under).unwrap(),
            "FLOWS 91 of 100, SLOTS 1048576 of 1048576"
        );
        assert_eq!(message(&tables, &BTreeSet::new()), None);
    }
}

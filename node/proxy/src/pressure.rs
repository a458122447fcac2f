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

/// Whether there was no source port for somebody between two looks at how often that was. What an
/// earlier daemon left is not told again.
pub fn ports_ran_out(before: Option<u64>, now: u64) -> bool {
    before.is_some_and(|before| now > before)
}

/// Source ports are no table: each place that is talked to has all of them.
const PORTS: &str = "source ports (none was left for new connections to some place)";

/// For people; None where no table is, and there were source ports.
pub fn message(
    tables: &[Table],
    pressed: &BTreeSet<&'static str>,
    no_ports: bool,
) -> Option<String> {
    let named = tables
        .iter()
        .filter(|table| pressed.contains(table.name))
        .map(|table| format!("{} {} of {}", table.name, table.entries, table.capacity));
    let ports = no_ports.then(|| PORTS.to_owned());
    let named: Vec<String> = named.chain(ports).collect();
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
        let none = BTreeSet::new();
        let ports = "source ports (none was left for new connections to some place)";
        for (under, no_ports, expected) in [
            (
                &under,
                false,
                Some("FLOWS 91 of 100, SLOTS 1048576 of 1048576".to_owned()),
            ),
            (
                &under,
                true,
                Some(format!(
                    "FLOWS 91 of 100, SLOTS 1048576 of 1048576, {ports}"
                )),
            ),
            (&none, true, Some(ports.to_owned())),
            (&none, false, None),
        ] {
            assert_eq!(message(&tables, under, no_ports), expected);
        }
    }

    #[test]
    fn ports_run_out_between_two_looks() {
        for (before, now, ran_out) in [
            (None, 0, false),
            (None, 7, false),
            (Some(7), 7, false),
            (Some(7), 8, true),
            // The maps were made anew.
            (Some(7), 0, false),
        ] {
            assert_eq!(ports_ran_out(before, now), ran_out, "{before:?} {now}");
        }
    }
}

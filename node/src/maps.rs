//! `vetch-node maps`: the eBPF maps, how full they are, and the reasons' counters.

use anyhow::{Context as _, Result};
use vetch_proxy::inspect::{self, Memory};

use crate::cli::MapsArgs;
use crate::table::{self, Table};

pub fn main(maps: &MapsArgs) -> Result<()> {
    let memory = inspect::memory(&maps.pin_dir).with_context(|| maps.no_node())?;
    table::print(maps.output, &memory, || text(&memory))
}

fn text(memory: &Memory) -> String {
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let mut table = Table::new(["MAP", "TYPE", "USED", "MAX", "BYTES"]);
    for map in &memory.maps {
        table.row([
            map.name.clone(),
            map.kind.clone(),
            dash(map.used_entries.map(|used| used.to_string())),
            map.max_entries.to_string(),
            dash(map.memory_bytes.map(|bytes| bytes.to_string())),
        ]);
    }
    let bytes: u64 = memory.maps.iter().filter_map(|map| map.memory_bytes).sum();
    table.row(["all", "", "", "", &bytes.to_string()].map(str::to_owned));
    let mut reasons = Table::new(["REASON", "COUNT"]);
    for (reason, count) in &memory.reasons {
        reasons.row([(*reason).to_owned(), count.to_string()]);
    }
    format!("{}\n{}", table.text(), reasons.text())
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::MemoryMap;

    use super::*;

    #[test]
    fn maps_their_sum_and_the_reasons() {
        let map = |name: &str, used_entries, memory_bytes| MemoryMap {
            name: name.into(),
            kind: "hash".into(),
            max_entries: 8,
            used_entries,
            memory_bytes,
        };
        let text = text(&Memory {
            maps: vec![
                map("A", Some(2), Some(4096)),
                map("B", None, None),
                map("C", Some(0), Some(1)),
            ],
            reasons: [("unknown-port", 5)].into(),
        });
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[0], ["MAP", "TYPE", "USED", "MAX", "BYTES"]);
        assert_eq!(rows[1], ["A", "hash", "2", "8", "4096"]);
        assert_eq!(rows[2], ["B", "hash", "-", "8", "-"]);
        assert_eq!(rows[4], ["all", "4097"]);
        assert_eq!(rows[7], ["unknown-port", "5"]);
    }
}

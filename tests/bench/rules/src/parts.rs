//! A long script cut into several transactions that lay the same rules.
//!
//! iptables 1.8.9 keeps a sorted list of the chains that one input names, and the kernel's
//! nf_tables one of what a transaction binds; both walk it for every line. In one piece 10,000
//! Services take iptables a minute, in parts three seconds. Only who measures how long the one
//! piece takes has to wait for it.

use std::fmt::Write;

/// Lines of one transaction. Each also has the kernel look at the whole table once.
const LINES: usize = 2000;

/// Of an input of `iptables-restore --noflush`. To declare a chain is to empty it, so all are
/// declared before the first rule.
pub fn iptables(script: &str) -> Vec<String> {
    cut_iptables(script, LINES)
}

/// Of an input of `nft -f -`, whose lines stand for themselves.
pub fn nftables(script: &str) -> Vec<String> {
    cut_nftables(script, LINES)
}

fn cut_iptables(script: &str, most: usize) -> Vec<String> {
    let mut parts = Vec::new();
    for table in script.split_inclusive("COMMIT\n") {
        let Some((name, lines)) = table.split_once('\n') else {
            continue;
        };
        let (chains, rules): (Vec<_>, Vec<_>) = lines
            .lines()
            .filter(|line| *line != "COMMIT")
            .partition(|line| line.starts_with(':'));
        for lines in chains.chunks(most).chain(rules.chunks(most)) {
            let mut part = format!("{name}\n");
            for line in lines {
                writeln!(part, "{line}").expect("writing to a String cannot fail");
            }
            parts.push(part + "COMMIT\n");
        }
    }
    parts
}

fn cut_nftables(script: &str, most: usize) -> Vec<String> {
    let lines: Vec<_> = script.split_inclusive('\n').collect();
    lines.chunks(most).map(<[_]>::concat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_declared_before_any_rule_and_lines_keep_their_order() {
        let script = "*filter\n:A - [0:0]\nCOMMIT\n*nat\n:B - [0:0]\n:C - [0:0]\n:D - [0:0]\n-A B 1\n-A C 2\n-A B 3\nCOMMIT\n";
        assert_eq!(
            cut_iptables(script, 2),
            [
                "*filter\n:A - [0:0]\nCOMMIT\n",
                "*nat\n:B - [0:0]\n:C - [0:0]\nCOMMIT\n",
                "*nat\n:D - [0:0]\nCOMMIT\n",
                "*nat\n-A B 1\n-A C 2\nCOMMIT\n",
                "*nat\n-A B 3\nCOMMIT\n",
            ]
        );
        assert_eq!(cut_nftables("a\nb\nc\n", 2), ["a\nb\n", "c\n"]);
    }
}

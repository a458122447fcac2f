//! Tables that iptables makes in nf_tables, as `nft -j` lists them.

use serde_json::Value;

/// Those that kube-proxy's rules live in.
pub const IPTABLES: [&str; 3] = ["filter", "nat", "mangle"];

/// Whether a table is as iptables makes it: its built-in chains that accept,
/// and nothing of anybody.
pub fn is_idle(listing: &str) -> Result<bool, serde_json::Error> {
    let listing: Value = serde_json::from_str(listing)?;
    let objects = listing["nftables"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    Ok(objects.iter().all(|object| match object.get("chain") {
        Some(chain) => is_builtin(chain),
        None => object.get("metainfo").is_some() || object.get("table").is_some(),
    }))
}

/// Whether it is a chain that iptables makes, and accepts.
pub fn is_builtin(chain: &Value) -> bool {
    const BUILTIN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let named = chain["name"]
        .as_str()
        .is_some_and(|name| BUILTIN.contains(&name));
    named && chain["policy"] == "accept"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_table_with_nothing_of_anybody_is_idle() {
        let builtin = r#"{"chain": {"family": "ip", "table": "filter", "name": "INPUT", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}}"#;
        let dropping = builtin.replace("accept", "drop");
        let own = r#"{"chain": {"family": "ip", "table": "filter", "name": "MINE", "handle": 2}}"#;
        let rule = r#"{"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "handle": 3, "expr": [{"xt": null}]}}"#;
        let table = [
            (vec![], true),
            (vec![builtin], true),
            (vec![dropping.as_str()], false),
            (vec![builtin, own], false),
            (vec![builtin, rule], false),
        ];
        for (objects, expected) in table {
            let all: Vec<_> = [
                r#"{"metainfo": {}}"#,
                r#"{"table": {"family": "ip", "name": "filter", "handle": 9}}"#,
            ]
            .into_iter()
            .chain(objects)
            .collect();
            let listing = format!(r#"{{"nftables": [{}]}}"#, all.join(","));
            assert_eq!(is_idle(&listing).unwrap(), expected, "{listing}");
        }
    }
}

//! Whether a table is only ours, so that it can go as a whole: that takes the kernel a moment, where
//! taking rule after rule out of it takes minutes at ten thousands of Services.

use std::collections::BTreeMap;

use serde_json::Value;

use super::tables;
use crate::{iptables, nftables};

/// A table, as nft names it: family and name.
pub type Table = (String, String);

/// Tables that may be only ours, each with its built-in chains that may hold rules of others, from
/// `nft -j list chains`.
pub fn candidates(listing: &str) -> Result<BTreeMap<Table, Vec<String>>, serde_json::Error> {
    let listing: Value = serde_json::from_str(listing)?;
    let mut all: BTreeMap<Table, Option<Vec<String>>> = BTreeMap::new();
    for chain in objects(&listing, "chain") {
        let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        let (table, name) = ((text("family"), text("table")), text("name"));
        let known = all.entry(table.clone()).or_insert_with(|| Some(Vec::new()));
        let of_iptables = tables::IPTABLES.contains(&table.1.as_str());
        let fits = match known {
            _ if table.1 == nftables::TABLE => true,
            _ if !of_iptables => false,
            Some(builtin) if tables::is_builtin(chain) => {
                builtin.push(name);
                true
            }
            _ => iptables::is_ours(&name),
        };
        if !fits {
            *known = None;
        }
    }
    Ok(all
        .into_iter()
        .filter_map(|(table, builtin)| Some((table, builtin?)))
        .collect())
}

/// Whether a built-in chain's rules all jump to chains of ours, from `nft -j list chain`.
pub fn only_jumps_to_ours(listing: &str) -> Result<bool, serde_json::Error> {
    let listing: Value = serde_json::from_str(listing)?;
    let is_ours = |rule: &Value| {
        let expressions = rule["expr"].as_array().map_or(&[][..], Vec::as_slice);
        expressions.iter().any(|expression| {
            let target = expression["jump"]["target"].as_str();
            target.is_some_and(iptables::is_ours)
        })
    };
    Ok(objects(&listing, "rule").all(is_ours))
}

/// Whether one of these tables has a chain that kube-proxy makes.
pub fn has_ours(listing: &str) -> Result<bool, serde_json::Error> {
    let listing: Value = serde_json::from_str(listing)?;
    Ok(objects(&listing, "chain").any(|chain| {
        let (table, name) = (chain["table"].as_str(), chain["name"].as_str());
        table == Some(nftables::TABLE)
            || (table.is_some_and(|table| tables::IPTABLES.contains(&table))
                && name.is_some_and(iptables::is_ours))
    }))
}

fn objects<'a>(listing: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let all = listing["nftables"].as_array();
    all.into_iter()
        .flatten()
        .filter_map(move |object| object.get(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(table: &str, name: &str, base: bool) -> String {
        let hook = match base {
            true => r#", "type": "nat", "hook": "output", "prio": 0, "policy": "accept""#,
            false => "",
        };
        format!(
            r#"{{"chain": {{"family": "ip", "table": "{table}", "name": "{name}", "handle": 1{hook}}}}}"#
        )
    }

    fn listing(objects: &[String]) -> String {
        format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {}]}}"#,
            objects.join(",")
        )
    }

    #[test]
    fn a_table_with_a_chain_of_others_is_not_only_ours() {
        let listing = listing(&[
            chain("nat", "OUTPUT", true),
            chain("nat", "KUBE-SVC-A", false),
            chain("filter", "INPUT", true),
            chain("filter", "KUBE-ROUTER-INPUT", false),
            chain("mine", "KUBE-SVC-A", false),
            chain("kube-proxy", "services", false),
        ]);
        let found = candidates(&listing).unwrap();
        let table = |name: &str| ("ip".to_owned(), name.to_owned());
        assert_eq!(
            found,
            BTreeMap::from([
                (table("kube-proxy"), vec![]),
                (table("nat"), vec!["OUTPUT".to_owned()]),
            ])
        );
        assert!(has_ours(&listing).unwrap());
    }

    #[test]
    fn a_rule_of_others_in_a_built_in_chain_is_seen() {
        let rule = |expression: &str| {
            format!(
                r#"{{"rule": {{"family": "ip", "table": "nat", "chain": "OUTPUT", "handle": 3, "expr": [{{"counter": {{}}}}, {expression}]}}}}"#
            )
        };
        let ours = rule(r#"{"jump": {"target": "KUBE-SERVICES"}}"#);
        for (rules, wanted) in [
            (vec![], true),
            (vec![ours.clone()], true),
            (
                vec![ours.clone(), rule(r#"{"jump": {"target": "DOCKER"}}"#)],
                false,
            ),
            (vec![ours, rule(r#"{"drop": null}"#)], false),
        ] {
            let all: Vec<_> = [chain("nat", "OUTPUT", true)]
                .into_iter()
                .chain(rules)
                .collect();
            assert_eq!(only_jumps_to_ours(&listing(&all)).unwrap(), wanted);
        }
    }
}

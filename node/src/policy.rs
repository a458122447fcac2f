//! `vetch-node policy`: by which rules pods are held, from the kernel's maps.

use anyhow::{Context as _, Result, bail};
use vetch_proxy::inspect::{self, HeldPod, HeldPodDetail, HeldRule, HeldTiers};

use crate::cli::PolicyCommand;
use crate::table::{self, Table};

/// Of the addresses that share an identity.
const SHOWN: usize = 4;

pub fn main(command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Ls(maps) => {
            let pods = inspect::policies(&maps.pin_dir).with_context(|| maps.no_node())?;
            table::print(maps.output, &pods, || list(&pods))
        }
        PolicyCommand::Show { maps, address } => {
            let pod = inspect::policy(&maps.pin_dir, *address);
            let Some(pod) = pod.with_context(|| maps.no_node())? else {
                bail!(
                    "no pod of this node has the address {address}: `vetch-node policy ls` lists them"
                );
            };
            table::print(maps.output, &pod, || show(&pod))
        }
    }
}

fn list(pods: &[HeldPod]) -> String {
    let mut table = Table::new([
        "ADDRESS", "STATE", "INGRESS", "RULES", "EGRESS", "RULES", "LINK",
    ]);
    for pod in pods {
        table.row([
            pod.address.to_string(),
            pod.state.to_owned(),
            set(pod.ingress_set, pod.ingress_tiers),
            rules(pod.ingress_set, pod.ingress_rules),
            set(pod.egress_set, pod.egress_tiers),
            rules(pod.egress_set, pod.egress_rules),
            pod.ifindex.to_string(),
        ]);
    }
    table.text()
}

/// Of tiers where administrators' policies have a say.
fn set(number: Option<u16>, tiers: bool) -> String {
    let kind = if tiers { "tiers" } else { "set" };
    number.map_or_else(|| "all".into(), |number| format!("{kind} {number}"))
}

fn rules(number: Option<u16>, count: usize) -> String {
    number.map_or_else(|| "-".into(), |_| count.to_string())
}

fn show(detail: &HeldPodDetail) -> String {
    let mut text = list(std::slice::from_ref(&detail.pod));
    for (name, isolated, rules, tiers) in [
        (
            "FROM",
            detail.pod.ingress_set,
            &detail.ingress,
            &detail.ingress_tiers,
        ),
        (
            "TO",
            detail.pod.egress_set,
            &detail.egress,
            &detail.egress_tiers,
        ),
    ] {
        if isolated.is_none() {
            continue;
        }
        text.push('\n');
        if let Some(tiers) = tiers {
            text.push_str(&decided(name, tiers));
            continue;
        }
        let mut table = Table::new([name, "PROTOCOL", "PORTS", "PODS"]);
        for rule in rules {
            table.row([
                rule.peer.clone(),
                protocol(rule),
                ports(rule),
                pods(&rule.addresses),
            ]);
        }
        text.push_str(&table.text());
    }
    text
}

/// The rules in their order, and what comes of them for each peer.
fn decided(name: &'static str, tiers: &HeldTiers) -> String {
    let mut order = Table::new(["ASKED", "RULE"]);
    for (at, rule) in tiers.rules.iter().enumerate() {
        order.row([(at + 1).to_string(), rule.clone()]);
    }
    let mut table = Table::new([name, "VERDICT", "TRAFFIC", "PODS", "BY"]);
    for one in &tiers.decided {
        table.row([
            one.peer.clone(),
            if one.lets { "allow" } else { "deny" }.to_owned(),
            one.traffic.clone(),
            pods(&one.addresses),
            one.by.clone(),
        ]);
    }
    format!("{}\n{}", order.text(), table.text())
}

fn protocol(rule: &HeldRule) -> String {
    match (rule.protocol, rule.protocols) {
        (Some(name), _) => name.to_owned(),
        (None, Some([first, last])) => format!("{first}-{last}"),
        (None, None) => "all".to_owned(),
    }
}

fn ports(rule: &HeldRule) -> String {
    match rule.ports {
        None => "all".into(),
        Some([first, last]) if first == last => first.to_string(),
        Some([first, last]) => format!("{first}-{last}"),
    }
}

fn pods(addresses: &[std::net::IpAddr]) -> String {
    let shown = addresses.iter().take(SHOWN);
    let mut words: Vec<String> = shown.map(ToString::to_string).collect();
    if let Some(more) = addresses.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        words.push(format!("{more} more"));
    }
    if words.is_empty() {
        "-".into()
    } else {
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::HeldDecision;

    use super::*;

    #[test]
    fn a_pod_and_its_rules() {
        let pod = HeldPod {
            address: "10.1.0.2".parse().unwrap(),
            ifindex: 7,
            state: "isolated",
            ingress_set: Some(3),
            ingress_rules: 2,
            egress_set: None,
            egress_rules: 0,
            ingress_tiers: false,
            egress_tiers: false,
        };
        let rule = |peer: &str, addresses: usize, protocol, ports| HeldRule {
            peer: peer.into(),
            addresses: (1..=addresses)
                .map(|at| format!("10.1.0.{at}").parse().unwrap())
                .collect(),
            protocol,
            protocols: None,
            ports,
        };
        let text = show(&HeldPodDetail {
            pod,
            ingress: vec![
                rule("identity 7", 6, Some("TCP"), Some([80, 80])),
                rule("10.0.0.0/8", 0, Some("UDP"), Some([9000, 9007])),
                rule("any", 0, None, None),
            ],
            egress: Vec::new(),
            ingress_tiers: None,
            egress_tiers: None,
        });
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            ["10.1.0.2", "isolated", "set", "3", "2", "all", "-", "7"]
        );
        assert_eq!(
            lines[4],
            [
                "identity",
                "7",
                "TCP",
                "80",
                "10.1.0.1,10.1.0.2,10.1.0.3,10.1.0.4,2",
                "more"
            ]
        );
        assert_eq!(lines[5], ["10.0.0.0/8", "UDP", "9000-9007", "-"]);
        assert_eq!(lines[6], ["any", "all", "all", "-"]);
        assert!(!text.lines().any(|line| line.starts_with("TO ")), "{text}");
    }

    #[test]
    fn tiers_are_told_by_their_rules() {
        let decision = |peer: &str, lets, by: &str| HeldDecision {
            peer: peer.into(),
            addresses: Vec::new(),
            lets,
            traffic: "TCP 80 others".into(),
            by: by.into(),
        };
        let text = decided(
            "TO",
            &HeldTiers {
                rules: vec!["Deny: rule 1 of AdminNetworkPolicy a, priority 5".into()],
                decided: vec![
                    decision(
                        "identity 7",
                        false,
                        "rule 1 of AdminNetworkPolicy a, priority 5",
                    ),
                    decision("any", true, "no rule of any policy"),
                ],
            },
        );
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1][..3], ["1", "Deny:", "rule"]);
        assert_eq!(lines[3], ["TO", "VERDICT", "TRAFFIC", "PODS", "BY"]);
        let identity = ["identity", "7", "deny", "TCP", "80", "others", "-", "rule"];
        assert_eq!(lines[4][..8], identity);
        assert_eq!(lines[5][..2], ["any", "allow"]);
    }
}

//! `vetch-node policy`: by which rules pods are held, from the kernel's maps.

use anyhow::{Context as _, Result, bail};
use vetch_proxy::inspect::{self, HeldPod, HeldPodDetail, HeldRule};

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
            set(pod.ingress_set),
            rules(pod.ingress_set, pod.ingress_rules),
            set(pod.egress_set),
            rules(pod.egress_set, pod.egress_rules),
            pod.ifindex.to_string(),
        ]);
    }
    table.text()
}

fn set(number: Option<u16>) -> String {
    number.map_or_else(|| "all".into(), |number| format!("set {number}"))
}

fn rules(number: Option<u16>, count: usize) -> String {
    number.map_or_else(|| "-".into(), |_| count.to_string())
}

fn show(detail: &HeldPodDetail) -> String {
    let mut text = list(std::slice::from_ref(&detail.pod));
    for (name, isolated, rules) in [
        ("FROM", detail.pod.ingress_set, &detail.ingress),
        ("TO", detail.pod.egress_set, &detail.egress),
    ] {
        if isolated.is_none() {
            continue;
        }
        let mut table = Table::new([name, "PROTOCOL", "PORTS", "PODS"]);
        for rule in rules {
            table.row([
                rule.peer.clone(),
                rule.protocol.unwrap_or("all").to_owned(),
                ports(rule),
                pods(rule),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

fn ports(rule: &HeldRule) -> String {
    match rule.ports {
        None => "all".into(),
        Some([first, last]) if first == last => first.to_string(),
        Some([first, last]) => format!("{first}-{last}"),
    }
}

fn pods(rule: &HeldRule) -> String {
    let shown = rule.addresses.iter().take(SHOWN);
    let mut words: Vec<String> = shown.map(ToString::to_string).collect();
    if let Some(more) = rule
        .addresses
        .len()
        .checked_sub(SHOWN)
        .filter(|more| *more > 0)
    {
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
        };
        let rule = |peer: &str, addresses: usize, protocol, ports| HeldRule {
            peer: peer.into(),
            addresses: (1..=addresses)
                .map(|at| format!("10.1.0.{at}").parse().unwrap())
                .collect(),
            protocol,
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
}

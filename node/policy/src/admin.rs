//! From objects of `policy.networking.k8s.io/v1alpha1`, as the API server has them:
//! no crate has their types.
//!
//! A rule that cannot be read wholly fails closed, as the API says: one that allows is
//! none, any other denies everything to everybody.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::LabelSelector};
use serde_json::Value;
use vetch_ebpf_common::Protocol;

use crate::{
    Action, AdminPolicy, AdminRule, Namespaces, Node, PeerSpec, Port, PortSpec, RuleSpec, Selector,
    read::net, traffic::PROTOCOLS,
};

impl AdminPolicy {
    /// `spec` of either kind.
    pub fn read(spec: &Value) -> Self {
        let rules = |list: &str, peers: &str| {
            let rules = spec[list].as_array().into_iter().flatten();
            rules.filter_map(|one| rule(one, peers)).collect()
        };
        let priority = spec["priority"].as_i64().unwrap_or_default();
        Self {
            priority: i32::try_from(priority).unwrap_or_default(),
            subject: subject(&spec["subject"]),
            ingress: rules("ingress", "from"),
            egress: rules("egress", "to"),
        }
    }
}

/// The one field of what has to have one exactly.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let mut fields = value.as_object()?.iter();
    let (key, value) = fields.next()?;
    let alone = fields.next().is_none();
    alone.then_some((key.as_str(), value))
}

fn selector(value: &Value) -> Option<Selector> {
    let read: LabelSelector = serde_json::from_value(value.clone()).ok()?;
    let mut expressions = read.match_expressions.iter().flatten();
    let known = ["In", "NotIn", "Exists", "DoesNotExist"];
    let is_known = expressions.all(|one| known.contains(&one.operator.as_str()));
    is_known.then(|| Selector::read(&read))
}

/// Namespaces and pods in them.
fn subject(value: &Value) -> Option<(Selector, Selector)> {
    match only(value)? {
        ("namespaces", namespaces) => Some((selector(namespaces)?, Selector::default())),
        ("pods", pods) => Some((
            selector(&pods["namespaceSelector"])?,
            selector(&pods["podSelector"])?,
        )),
        _ => None,
    }
}

/// None for one that allows what nobody understands.
fn rule(value: &Value, peers: &str) -> Option<AdminRule> {
    let name = value["name"].as_str().unwrap_or_default().to_owned();
    let action = match value["action"].as_str() {
        Some("Allow") => Action::Allow,
        Some("Pass") => Action::Pass,
        _ => Action::Deny,
    };
    match spec(value, peers) {
        Some(rule) => Some(AdminRule { name, action, rule }),
        None if action == Action::Allow => None,
        None => Some(AdminRule {
            name,
            action: Action::Deny,
            rule: RuleSpec::default(),
        }),
    }
}

fn spec(value: &Value, peers: &str) -> Option<RuleSpec> {
    let peers = all(&value[peers], peer)?;
    let ports = match &value["ports"] {
        Value::Null => BTreeSet::new(),
        listed => all(listed, port)?,
    };
    Some(RuleSpec { peers, ports })
}

/// None for an empty list as well: here that is not all of them, as in a NetworkPolicy.
fn all<T: Ord>(list: &Value, read: impl Fn(&Value) -> Option<Vec<T>>) -> Option<BTreeSet<T>> {
    let read: Option<Vec<Vec<T>>> = list.as_array()?.iter().map(read).collect();
    let all: BTreeSet<T> = read?.into_iter().flatten().collect();
    (!all.is_empty()).then_some(all)
}

fn peer(value: &Value) -> Option<Vec<PeerSpec>> {
    match only(value)? {
        ("networks", networks) => {
            let networks = networks.as_array()?.iter();
            let blocks: Option<Vec<PeerSpec>> = networks
                .map(|network| {
                    let cidr = net(network.as_str()?)?;
                    let except = BTreeSet::new();
                    Some(PeerSpec::Block { cidr, except })
                })
                .collect();
            blocks.filter(|blocks| !blocks.is_empty())
        }
        ("nodes", nodes) => Some(vec![PeerSpec::Nodes(selector(nodes)?)]),
        // Of names nothing is known here.
        _ => {
            let (namespaces, selector) = subject(value)?;
            let namespaces = Namespaces::Matching(namespaces);
            Some(vec![PeerSpec::Pods {
                namespaces,
                selector,
            }])
        }
    }
}

fn port(value: &Value) -> Option<Vec<PortSpec>> {
    let (kind, value) = only(value)?;
    let number = |field: &str| {
        let number = u16::try_from(value[field].as_i64()?).ok();
        number.filter(|number| *number != 0)
    };
    let range = |first, last| {
        let protocol = protocol(&value["protocol"])?;
        let port = Port::Range(first, last);
        Some(vec![PortSpec { protocol, port }])
    };
    match kind {
        "portNumber" => range(number("port")?, number("port")?),
        "portRange" => range(number("start")?, number("end")?),
        // Of whichever protocol has it.
        "namedPort" => {
            let name = value.as_str()?;
            let named = |protocol| PortSpec {
                protocol,
                port: Port::Named(name.to_owned()),
            };
            Some(PROTOCOLS.map(named).into())
        }
        _ => None,
    }
}

fn protocol(value: &Value) -> Option<Protocol> {
    match value {
        Value::Null => Protocol::named(None),
        value => Protocol::named(Some(value.as_str()?)),
    }
}

impl Node {
    /// Every address of its status that is one.
    pub fn read(node: &core::Node) -> Self {
        let status = node.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref());
        let ips = addresses.into_iter().flatten();
        let ips = ips.filter_map(|one| one.address.parse().ok());
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            ips: ips.map(|ip: IpAddr| ip.to_canonical()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods() -> Value {
        json!({"namespaces": {}})
    }

    /// What becomes of a rule by its action: itself, none, or one that denies all.
    #[test]
    fn what_cannot_be_read_fails_closed() {
        for (what, rule, readable) in [
            ("whole", json!({"to": [pods()]}), true),
            (
                "ports",
                json!({"to": [pods()], "ports": [{"portNumber": {"port": 80}}]}),
                true,
            ),
            ("no peers", json!({"to": []}), false),
            ("a peer of nothing", json!({"to": [pods(), {}]}), false),
            (
                "a peer of two",
                json!({"to": [{"namespaces": {}, "nodes": {}}]}),
                false,
            ),
            (
                "a kind of peer from later",
                json!({"to": [{"services": {}}]}),
                false,
            ),
            (
                "names",
                json!({"to": [{"domainNames": ["kubernetes.io"]}]}),
                false,
            ),
            (
                "no network",
                json!({"to": [{"networks": ["10.0.0.0"]}]}),
                false,
            ),
            ("no networks", json!({"to": [{"networks": []}]}), false),
            (
                "half of pods",
                json!({"to": [{"pods": {"podSelector": {}}}]}),
                false,
            ),
            (
                "an operator that is none",
                json!({"to": [{"nodes": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}]}),
                false,
            ),
            ("no ports", json!({"to": [pods()], "ports": []}), false),
            (
                "another protocol",
                json!({"to": [pods()], "ports": [{"portNumber": {"protocol": "ICMP", "port": 8}}]}),
                false,
            ),
            (
                "no port",
                json!({"to": [pods()], "ports": [{"portNumber": {"port": 0}}]}),
                false,
            ),
            (
                "a kind of port from later",
                json!({"to": [pods()], "ports": [{"icmp": {}}]}),
                false,
            ),
        ] {
            for action in ["Allow", "Deny", "Pass"] {
                let mut rule = rule.clone();
                rule["action"] = json!(action);
                let read = AdminPolicy::read(&json!({"egress": [rule]})).egress;
                let denies_all =
                    |one: &AdminRule| one.action == Action::Deny && one.rule == RuleSpec::default();
                match (readable, action) {
                    (true, _) => assert!(read.len() == 1 && !denies_all(&read[0]), "{what}"),
                    (false, "Allow") => assert!(read.is_empty(), "{what}"),
                    (false, _) => assert!(denies_all(&read[0]), "{what} {action}"),
                }
            }
        }
    }

    #[test]
    fn fields_are_read() {
        let read = AdminPolicy::read(&json!({
            "priority": 7,
            "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}},
            "ingress": [{"name": "one", "action": "Pass", "from": [pods()], "ports": [
                {"namedPort": "web"}, {"portRange": {"protocol": "SCTP", "start": 2, "end": 4}},
            ]}],
            "egress": [{"action": "Allow", "to": [{"networks": ["10.0.0.0/8", "fd00::/8"]}, {"nodes": {}}]}],
        }));
        assert_eq!(read.priority, 7);
        let (namespaces, selected) = read.subject.unwrap();
        assert_eq!(namespaces, Selector::default());
        assert!(selected.matches(&[("a".to_owned(), "b".to_owned())].into()));
        let rule = &read.ingress[0];
        assert_eq!((rule.name.as_str(), rule.action), ("one", Action::Pass));
        let named = rule.rule.ports.iter();
        let named = named.filter(|one| one.port == Port::Named("web".into()));
        assert_eq!(named.count(), 3, "{rule:?}");
        let range = PortSpec {
            protocol: Protocol::Sctp,
            port: Port::Range(2, 4),
        };
        assert!(rule.rule.ports.contains(&range));
        assert_eq!(read.egress[0].rule.peers.len(), 3);
        assert_eq!(AdminPolicy::read(&Value::Null).subject, None);
    }
}

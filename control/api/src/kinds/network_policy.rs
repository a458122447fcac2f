use ipnet::IpNet;
use k8s_openapi::api::networking::v1::NetworkPolicy as Typed;
use serde_json::{Value, json};

use super::selector;
use crate::decode::typed;
use crate::field::Path;
use crate::ip;
use crate::print::{AGE, NAME, age, column, label_selector, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource, Warn};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const TYPES: &[&str] = &["Ingress", "Egress"];

pub const ROW: Resource = Resource {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    storage_prefix: "networkpolicies",
    decode: typed::<Typed>,
    default,
    prepare_create: meta::first_generation,
    prepare_update: meta::next_generation,
    validate_create: |policy| {
        let mut errors = meta::validate(policy, true, names::subdomain);
        validate(policy, &[], &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &networks(old), &mut errors);
        errors
    },
    warn: Some(Warn {
        create: warnings,
        update: warnings,
        status: |_| Vec::new(),
    }),
    columns: &[
        NAME,
        column(
            "Pod-Selector",
            "podSelector selects the pods to which this NetworkPolicy object applies. The array of rules is applied to any pods selected by this field. An empty selector matches all pods in the policy's namespace. Multiple network policies can select the same set of pods. In this case, the ingress rules for each are combined additively. This field is optional. If it is not specified, it defaults to an empty selector.",
        ),
        AGE,
    ],
    cells: |policy, now| {
        vec![
            name(policy),
            label_selector(policy.pointer("/spec/podSelector")).into(),
            age(policy, now),
        ]
    },
    create_on_update: false,
    schema: "io.k8s.api.networking.v1.NetworkPolicy",
    types: register::<Typed>,
    ..BASE
};

fn default(policy: &mut Value) {
    policy.default_to("spec", json!({}));
    let Some(spec) = policy.get_mut("spec") else {
        return;
    };
    spec.default_to("podSelector", json!({}));
    for list in ["ingress", "egress"] {
        for rule in spec.list_mut(list) {
            for port in rule.list_mut("ports") {
                port.default_to("protocol", "TCP");
            }
        }
    }
    if spec.list_at("/policyTypes").is_empty()
        && let Some(object) = spec.as_object_mut()
    {
        let sends = object.get("egress").and_then(Value::as_array);
        let types = if sends.is_some_and(|rules| !rules.is_empty()) {
            json!(["Ingress", "Egress"])
        } else {
            json!(["Ingress"])
        };
        object.insert("policyTypes".into(), types);
    }
}

/// Rules with their peers: of both directions.
fn rules(policy: &Value) -> impl Iterator<Item = (Path, &Value, &'static str)> {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    [("ingress", "from"), ("egress", "to")]
        .into_iter()
        .flat_map(move |(list, peers)| {
            let rules = spec.list_at(&format!("/{list}")).iter().enumerate();
            rules.map(move |(i, rule)| (Path::new("spec").child(list).index(i), rule, peers))
        })
}

/// The blocks that rules name.
fn blocks(policy: &Value) -> impl Iterator<Item = (Path, &Value)> {
    rules(policy).flat_map(|(path, rule, peers)| {
        let list = rule.list_at(&format!("/{peers}")).iter().enumerate();
        list.filter_map(move |(i, peer)| {
            let block = peer.get("ipBlock").filter(|block| !block.is_null())?;
            Some((path.child(peers).index(i).child("ipBlock"), block))
        })
    })
}

/// All networks of a policy, which may stay as they are.
fn networks(policy: &Value) -> Vec<&str> {
    blocks(policy)
        .flat_map(|(_, block)| {
            let except = block.list_at("/except").iter();
            block.get("cidr").into_iter().chain(except)
        })
        .filter_map(Value::as_str)
        .collect()
}

fn warnings(policy: &Value) -> Vec<String> {
    let mut told = Vec::new();
    for (path, block) in blocks(policy) {
        told.extend(ip::warnings::network(
            &path.child("cidr"),
            block.str_at("/cidr"),
        ));
        let except = block.list_at("/except").iter().filter_map(Value::as_str);
        for (i, text) in except.enumerate() {
            told.extend(ip::warnings::network(&path.child("except").index(i), text));
        }
    }
    told
}

fn validate(policy: &Value, known: &[&str], errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    let selecting = spec.get("podSelector").unwrap_or(&Value::Null);
    errors.extend(selector::validate(selecting, &path.child("podSelector")));
    for (path, rule, peers) in rules(policy) {
        for (i, port) in rule.list_at("/ports").iter().enumerate() {
            validate_port(port, &path.child("ports").index(i), errors);
        }
        for (i, peer) in rule.list_at(&format!("/{peers}")).iter().enumerate() {
            validate_peer(peer, &path.child(peers).index(i), known, errors);
        }
    }
    let types = spec.list_at("/policyTypes");
    let path = path.child("policyTypes");
    if types.len() > TYPES.len() {
        errors.push(path.invalid(types, "may not specify more than two policyTypes"));
        return;
    }
    for (i, one) in types.iter().enumerate() {
        let one = one.as_str().unwrap_or_default();
        if !TYPES.contains(&one) {
            errors.push(path.index(i).not_supported(one, TYPES));
        }
    }
}

fn validate_port(port: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if port.has("/protocol") && !PROTOCOLS.contains(&port.str_at("/protocol")) {
        let protocol = port.str_at("/protocol");
        errors.push(path.child("protocol").not_supported(protocol, PROTOCOLS));
    }
    let end = port.opt_i64("/endPort");
    let at_end = path.child("endPort");
    let at = path.child("port");
    match port.get("port") {
        Some(Value::String(name)) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(at_end.invalid(end, detail));
            }
            let wrong = names::port_name(name);
            errors.extend(wrong.iter().map(|m| at.invalid(name.as_str(), m)));
        }
        Some(Value::Number(_)) => {
            let number = port.opt_i64("/port").unwrap_or(0);
            let wrong = names::port_number(number);
            errors.extend(wrong.iter().map(|m| at.invalid(number, m)));
            if let Some(end) = end {
                if end < number {
                    let detail = "must be greater than or equal to `port`";
                    errors.push(at_end.invalid(end, detail));
                }
                let wrong = names::port_number(end);
                errors.extend(wrong.iter().map(|m| at_end.invalid(end, m)));
            }
        }
        _ => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is not specified";
                errors.push(at_end.invalid(end, detail));
            }
        }
    }
}

fn validate_peer(peer: &Value, path: &Path, known: &[&str], errors: &mut Vec<FieldError>) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selecting) = peer.get(field).filter(|one| !one.is_null()) {
            count += 1;
            errors.extend(selector::validate(selecting, &path.child(field)));
        }
    }
    let block = peer.get("ipBlock").filter(|block| !block.is_null());
    if let Some(block) = block {
        count += 1;
        validate_block(block, &path.child("ipBlock"), known, errors);
    }
    if count == 0 {
        errors.push(path.required("must specify a peer"));
    } else if count > 1 && block.is_some() {
        errors.push(path.forbidden("may not specify both ipBlock and another peer"));
    }
}

fn validate_block(block: &Value, path: &Path, known: &[&str], errors: &mut Vec<FieldError>) {
    let cidr = block.str_at("/cidr");
    let at = path.child("cidr");
    if cidr.is_empty() {
        errors.push(at.required(""));
        return;
    }
    let known = || known.iter().copied();
    errors.extend(ip::network(cidr, known()).map(|m| at.invalid(cidr, m)));
    let Ok(outer) = cidr.parse::<IpNet>() else {
        return;
    };
    let except = block.list_at("/except").iter().filter_map(Value::as_str);
    for (i, text) in except.enumerate() {
        let at = path.child("except").index(i);
        errors.extend(ip::network(text, known()).map(|m| at.invalid(text, m)));
        let Ok(inner) = text.parse::<IpNet>() else {
            continue;
        };
        if !outer.contains(&inner.addr()) || outer.prefix_len() >= inner.prefix_len() {
            errors.push(at.invalid(text, "must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: Value) -> Value {
        json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
    }

    fn wrong(spec: Value) -> Vec<String> {
        let mut policy = policy(spec);
        default(&mut policy);
        let errors = (ROW.validate_create)(&policy);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults() {
        for (spec, types) in [
            (json!({}), json!(["Ingress"])),
            (json!({"egress": []}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (
                json!({"egress": [{}], "policyTypes": ["Egress"]}),
                json!(["Egress"]),
            ),
        ] {
            let mut policy = policy(spec.clone());
            default(&mut policy);
            assert_eq!(policy["spec"]["policyTypes"], types, "{spec}");
            assert_eq!(policy["spec"]["podSelector"], json!({}), "{spec}");
        }
        let mut policy = policy(json!({
            "ingress": [{"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}],
            "egress": [{"ports": [{"port": "web"}]}],
        }));
        default(&mut policy);
        let protocols = [
            "/spec/ingress/0/ports/0",
            "/spec/ingress/0/ports/1",
            "/spec/egress/0/ports/0",
        ]
        .map(|at| policy.str_at(&format!("{at}/protocol")).to_owned());
        assert_eq!(protocols, ["TCP", "UDP", "TCP"]);
    }

    #[test]
    fn what_is_no_policy() {
        let ingress = |rule: Value| json!({"ingress": [rule]});
        let block = |block: Value| json!({"egress": [{"to": [{"ipBlock": block}]}]});
        let ports = |port: Value| ingress(json!({"ports": [port]}));
        let table: [(Value, &[&str]); 17] = [
            (json!({}), &[]),
            (
                ingress(json!({"from": [{"podSelector": {}, "namespaceSelector": {}}]})),
                &[],
            ),
            (ports(json!({"port": 80, "endPort": 80})), &[]),
            (ports(json!({"port": "web"})), &[]),
            (
                block(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})),
                &[],
            ),
            (
                ingress(json!({"from": [{}]})),
                &["spec.ingress[0].from[0]: Required value: must specify a peer"],
            ),
            (
                ingress(json!({"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]})),
                &[
                    "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
                ],
            ),
            (
                ports(json!({"port": 0})),
                &[
                    "spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                ports(json!({"port": 80, "endPort": 79})),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
                ],
            ),
            (
                ports(json!({"endPort": 79})),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is not specified",
                ],
            ),
            (
                ports(json!({"port": "web", "endPort": 79})),
                &[
                    "spec.ingress[0].ports[0].endPort: Invalid value: 79: may not be specified when `port` is non-numeric",
                ],
            ),
            (
                ports(json!({"port": 80, "protocol": "ICMP"})),
                &[
                    "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                ],
            ),
            (
                block(json!({})),
                &["spec.egress[0].to[0].ipBlock.cidr: Required value"],
            ),
            (
                block(json!({"cidr": "10.0.0.0"})),
                &[
                    "spec.egress[0].to[0].ipBlock.cidr: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            (
                block(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/16"]})),
                &[
                    "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                    "spec.egress[0].to[0].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ],
            ),
            (
                json!({"policyTypes": ["Egress", "Both"]}),
                &[
                    "spec.policyTypes[1]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
                ],
            ),
            (
                json!({"podSelector": {"matchLabels": {"a": "!"}}}),
                &["spec.podSelector.matchLabels"],
            ),
        ];
        for (spec, expected) in table {
            let wrong = wrong(spec.clone());
            assert_eq!(wrong.len(), expected.len(), "{spec}: {wrong:?}");
            for (wrong, expected) in wrong.iter().zip(expected) {
                assert!(wrong.starts_with(expected), "{spec}: {wrong}");
            }
        }
    }

    #[test]
    fn a_network_from_before_strictness_may_stay() {
        let loose = policy(json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}));
        assert_eq!((ROW.validate_create)(&loose).len(), 1);
        let mut moved =
            policy(json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}));
        let version = json!("1");
        moved["metadata"]["resourceVersion"] = version.clone();
        let errors = (ROW.validate_update)(&moved, &loose);
        assert!(
            errors
                .iter()
                .all(|error| !error.to_string().contains("cidr")),
            "{errors:?}"
        );
    }

    #[test]
    fn it_reads_as_in_kubectl() {
        for (selecting, shown) in [
            (json!({}), "<none>"),
            (json!({"matchLabels": {"app": "web"}}), "app=web"),
        ] {
            let policy = policy(json!({"podSelector": selecting}));
            let cells = (ROW.cells)(&policy, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(cells, ["p", shown, "<unknown>"]);
        }
    }
}

//! What AdminNetworkPolicies and the BaselineAdminNetworkPolicy have in common
//! (sigs.k8s.io/network-policy-api, v1alpha1 as of its v0.1.7, experimental channel).
//!
//! Upstream they are custom resources: the limits, rules and words are those of their
//! definitions, as apiextensions-apiserver has them. Stricter is what could only mean a
//! rule that is not the one that was meant: another protocol than those with ports, a
//! range that ends before it begins, a selector that is none, and names as peers, which
//! nothing here looks up.

mod schema;
#[cfg(test)]
mod tests;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::selector;
use crate::field::Path;
use crate::resource::{FieldError, Resource};
use crate::value::ValueExt;
use crate::{meta, names, registry};

pub(super) const GROUP: &str = "policy.networking.k8s.io";
pub(super) const VERSION: &str = "v1alpha1";

pub(super) const BASE: Resource = Resource {
    group: GROUP,
    version: VERSION,
    namespaced: false,
    default,
    prepare_create,
    prepare_update: meta::next_generation,
    validate_status: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate_status(new, &mut errors);
        errors
    },
    unconditional_update: false,
    types: schema::register,
    ..registry::BASE
};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];

/// Of rules, of peers of a rule, of ports of a rule.
const MOST: usize = 100;
const MOST_NETWORKS: usize = 25;

/// What the two differ in.
pub(super) struct Rules {
    pub actions: &'static [&'static str],
    /// Fields of a peer of an egress rule; of those of an ingress rule there are two.
    pub egress_peers: &'static [&'static str],
    /// About named ports of those that have none.
    pub no_named_ports: &'static str,
}

const INGRESS_PEERS: &[&str] = &["namespaces", "pods"];

fn default(policy: &mut Value) {
    let Some(spec) = policy.get_mut("spec") else {
        return;
    };
    for list in ["ingress", "egress"] {
        for rule in spec.list_mut(list) {
            for port in rule.list_mut("ports") {
                for kind in ["portNumber", "portRange"] {
                    if let Some(port) = port.get_mut(kind) {
                        port.default_to("protocol", "TCP");
                    }
                }
            }
        }
    }
}

fn prepare_create(policy: &mut Value) {
    policy.remove_key("status");
    meta::first_generation(policy);
}

pub(super) fn validate(policy: &Value, rules: &Rules, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let Some(spec) = policy.get("spec") else {
        errors.push(path.required(""));
        return;
    };
    match spec.get("subject") {
        Some(subject) => {
            let path = path.child("subject");
            only_one(subject, INGRESS_PEERS, &path, errors);
            validate_pods(subject, &path, errors);
        }
        None => errors.push(path.child("subject").required("")),
    }
    for (list, peers, fields) in [
        ("ingress", "from", INGRESS_PEERS),
        ("egress", "to", rules.egress_peers),
    ] {
        let path = path.child(list);
        let all = spec.list_at(&format!("/{list}"));
        at_most(all, MOST, &path, errors);
        for (i, rule) in all.iter().enumerate() {
            validate_rule(rule, rules, (peers, fields), &path.index(i), errors);
        }
    }
}

fn validate_rule(
    rule: &Value,
    rules: &Rules,
    (peers, fields): (&str, &[&str]),
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    if rule.str_at("/name").chars().count() > MOST {
        errors.push(path.child("name").too_long(MOST));
    }
    let action = path.child("action");
    match rule.get("action").and_then(Value::as_str) {
        None => errors.push(action.required("")),
        Some(one) if !rules.actions.contains(&one) => {
            errors.push(action.not_supported(one, rules.actions));
        }
        Some(_) => {}
    }
    let listed = rule.list_at(&format!("/{peers}"));
    let path_of_peers = path.child(peers);
    match rule.get(peers) {
        None => errors.push(path_of_peers.required("")),
        Some(_) => some(listed, MOST, &path_of_peers, errors),
    }
    for (i, peer) in listed.iter().enumerate() {
        validate_peer(peer, fields, &path_of_peers.index(i), errors);
    }
    let ports = rule.list_at("/ports");
    if rule.has("/ports") {
        some(ports, MOST, &path.child("ports"), errors);
    }
    for (i, port) in ports.iter().enumerate() {
        validate_port(port, &path.child("ports").index(i), errors);
    }
    let without_names = ["networks", "nodes", "domainNames"];
    let mut fields = listed.iter().flat_map(|peer| peer.as_object()).flatten();
    let has_none = fields.any(|(field, _)| without_names.contains(&field.as_str()));
    if has_none && ports.iter().any(|port| port.get("namedPort").is_some()) {
        errors.push(path.invalid("object", rules.no_named_ports));
    }
}

fn validate_peer(peer: &Value, fields: &[&str], path: &Path, errors: &mut Vec<FieldError>) {
    only_one(peer, fields, path, errors);
    validate_pods(peer, path, errors);
    if let Some(nodes) = peer.get("nodes") {
        errors.extend(selector::validate(nodes, &path.child("nodes")));
    }
    if peer.get("domainNames").is_some() {
        errors.push(path.child("domainNames").forbidden(
            "packets are judged by addresses here, and names are not looked up: use `networks`",
        ));
    }
    let Some(networks) = peer.get("networks") else {
        return;
    };
    let path = path.child("networks");
    let networks = networks.as_array().map_or(&[][..], Vec::as_slice);
    some(networks, MOST_NETWORKS, &path, errors);
    for (i, network) in networks.iter().enumerate() {
        let at = path.index(i);
        if networks[..i].contains(network) {
            errors.push(at.duplicate(network.clone()));
        }
        let is_network = match network.as_str().unwrap_or_default().parse() {
            Ok(IpNet::V6(net)) => net.addr().to_ipv4_mapped().is_none(),
            Ok(IpNet::V4(_)) => true,
            Err(_) => false,
        };
        if !is_network {
            errors.push(at.invalid(network.clone(), "Invalid CIDR format provided"));
        }
    }
}

/// Of a subject or a peer.
fn validate_pods(of: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(namespaces) = of.get("namespaces") {
        errors.extend(selector::validate(namespaces, &path.child("namespaces")));
    }
    let Some(pods) = of.get("pods") else {
        return;
    };
    for field in ["namespaceSelector", "podSelector"] {
        let path = path.child("pods").child(field);
        match pods.get(field) {
            Some(one) => errors.extend(selector::validate(one, &path)),
            None => errors.push(path.required("")),
        }
    }
}

fn validate_port(port: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    only_one(
        port,
        &["portNumber", "namedPort", "portRange"],
        path,
        errors,
    );
    for (kind, fields) in [
        ("portNumber", &["port"][..]),
        ("portRange", &["start", "end"]),
    ] {
        let Some(port) = port.get(kind) else {
            continue;
        };
        let path = path.child(kind);
        for field in fields {
            let at = path.child(field);
            match port.opt_i64(&format!("/{field}")) {
                None => errors.push(at.required("")),
                Some(number) => between(number, 1, 65_535, &at, errors),
            }
        }
        let protocol = port.str_at("/protocol");
        if port.has("/protocol") && !PROTOCOLS.contains(&protocol) {
            errors.push(path.child("protocol").not_supported(protocol, PROTOCOLS));
        }
        let (start, end) = (port.opt_i64("/start"), port.opt_i64("/end"));
        if let (Some(start), Some(end)) = (start, end)
            && end < start
        {
            let words = "must be greater than or equal to `start`";
            errors.push(path.child("end").invalid(end, words));
        }
    }
}

/// `minProperties` and `maxProperties` of 1. Others than these fields were not decoded.
fn only_one(of: &Value, fields: &[&str], path: &Path, errors: &mut Vec<FieldError>) {
    match fields
        .iter()
        .filter(|field| of.get(**field).is_some())
        .count()
    {
        0 => {
            let words = format!("{path} in body should have at least 1 properties");
            errors.push(path.invalid(json!({}), &words));
        }
        1 => {}
        many => errors.push(path.too_many(many, 1)),
    }
}

fn at_most(list: &[Value], most: usize, path: &Path, errors: &mut Vec<FieldError>) {
    if list.len() > most {
        errors.push(path.too_many(list.len(), most));
    }
}

fn some(list: &[Value], most: usize, path: &Path, errors: &mut Vec<FieldError>) {
    if list.is_empty() {
        let words = format!("{path} in body should have at least 1 items");
        errors.push(path.invalid(0, &words));
    }
    at_most(list, most, path, errors);
}

pub(super) fn between(
    number: i64,
    least: i64,
    most: i64,
    path: &Path,
    errors: &mut Vec<FieldError>,
) {
    if number < least {
        let words = format!("{path} in body should be greater than or equal to {least}");
        errors.push(path.invalid(number, &words));
    } else if number > most {
        let words = format!("{path} in body should be less than or equal to {most}");
        errors.push(path.invalid(number, &words));
    }
}

/// Conditions as metav1.Condition has them.
fn validate_status(policy: &Value, errors: &mut Vec<FieldError>) {
    let Some(status) = policy.get("status") else {
        return;
    };
    let path = Path::new("status").child("conditions");
    if !status.has("/conditions") {
        errors.push(path.required(""));
    }
    let conditions = status.list_at("/conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        for field in ["type", "status", "lastTransitionTime", "reason", "message"] {
            if !condition.has(&format!("/{field}")) {
                errors.push(at.child(field).required(""));
            }
        }
        let kind = condition.str_at("/type");
        if condition.has("/type") && !names::qualified(kind).is_empty() {
            let words = format!("{at}.type in body should be a condition's type");
            errors.push(at.child("type").invalid(kind, &words));
        }
        let earlier = conditions[..i].iter();
        if earlier
            .map(|one| one.str_at("/type"))
            .any(|one| one == kind)
        {
            errors.push(at.duplicate(json!({"type": kind})));
        }
        let status = condition.str_at("/status");
        let values = &["True", "False", "Unknown"];
        if condition.has("/status") && !values.contains(&status) {
            errors.push(at.child("status").not_supported(status, values));
        }
        let reason = condition.str_at("/reason");
        let is_word = |one: char| one.is_ascii_alphanumeric() || matches!(one, '_' | ',' | ':');
        let is_reason = reason.starts_with(|one: char| one.is_ascii_alphabetic())
            && reason.chars().all(is_word)
            && !reason.ends_with([',', ':'])
            && reason.len() <= 1024;
        if condition.has("/reason") && !is_reason {
            let words = "must begin with a letter, and have letters, digits, `_`, `,` and `:`";
            errors.push(at.child("reason").invalid(reason, words));
        }
        let generation = condition.i64_at("/observedGeneration");
        between(
            generation,
            0,
            i64::MAX,
            &at.child("observedGeneration"),
            errors,
        );
    }
}

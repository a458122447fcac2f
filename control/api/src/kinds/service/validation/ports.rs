//! spec.ports.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// Each by itself, and their names.
pub(super) fn ports(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let list = spec.list_at("/ports");
    let mut port_names = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = path.index(i);
        let name = port.str_at("/name");
        if name.is_empty() && list.len() > 1 {
            errors.push(at.child("name").required(""));
        } else if !name.is_empty() {
            let wrong = names::label(name);
            errors.extend(wrong.iter().map(|m| at.child("name").invalid(name, m)));
            if !port_names.insert(name) {
                errors.push(at.child("name").duplicate(name));
            }
        }
        let number = port.i64_at("/port");
        let wrong = names::port_number(number);
        errors.extend(wrong.iter().map(|m| at.child("port").invalid(number, m)));
        let protocol = port.str_at("/protocol");
        if protocol.is_empty() {
            errors.push(at.child("protocol").required(""));
        } else if !PROTOCOLS.contains(&protocol) {
            errors.push(at.child("protocol").not_supported(protocol, PROTOCOLS));
        }
        target(port, &at.child("targetPort"), errors);
        if port.has("/appProtocol") {
            let name = port.str_at("/appProtocol");
            let at = at.child("appProtocol");
            let wrong = names::qualified(name);
            errors.extend(wrong.iter().map(|m| at.invalid(name, m)));
        }
    }
}

fn target(port: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    match port.get("targetPort") {
        Some(Value::String(name)) => {
            let wrong = names::port_name(name);
            errors.extend(wrong.iter().map(|m| at.invalid(name.as_str(), m)));
        }
        other => {
            let number = other.and_then(Value::as_i64).unwrap_or(0);
            let wrong = names::port_number(number);
            errors.extend(wrong.iter().map(|m| at.invalid(number, m)));
        }
    }
}

/// Node ports, and whether two ports want to be the same one.
pub(super) fn node_ports(spec: &Value, kind: &str, path: &Path, errors: &mut Vec<FieldError>) {
    let list = spec.list_at("/ports");
    for (i, port) in list.iter().enumerate() {
        if kind == "ClusterIP" && port.i64_at("/nodePort") != 0 {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(path.index(i).child("nodePort").forbidden(detail));
        }
    }
    let mut node_ports = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let number = port.i64_at("/nodePort");
        if number != 0 && !node_ports.insert((port.str_at("/protocol"), number)) {
            errors.push(path.index(i).child("nodePort").duplicate(number));
        }
    }
    let mut numbers = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let (protocol, number) = (port.str_at("/protocol"), port.i64_at("/port"));
        if !numbers.insert((protocol, number)) {
            let shown = json!({"port": number, "protocol": protocol});
            errors.push(path.index(i).duplicate(shown));
        }
    }
}

//! Which drivers of the Container Storage Interface a node has: its kubelet says so, in an object of the node's name.

use k8s_openapi::api::storage::v1::CSINode as Typed;
use serde_json::{Value, json};

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, name, number};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// In bytes, both.
const MAX_DRIVER_NAME: usize = 63;
const MAX_NODE_ID: usize = 256;

pub const ROW: Resource = Resource {
    group: "storage.k8s.io",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    namespaced: false,
    storage_prefix: "csinodes",
    decode: typed::<Typed>,
    validate_create: |node| {
        let mut errors = meta::validate(node, false, names::subdomain);
        validate(node, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &mut errors);
        validate_change(new, old, &mut errors);
        errors
    },
    columns: &[
        NAME,
        number(
            "Drivers",
            "Drivers indicates the number of CSI drivers registered on the node",
        ),
        AGE,
    ],
    cells: |node, now| {
        vec![
            name(node),
            node.list_at("/spec/drivers").len().into(),
            age(node, now),
        ]
    },
    unconditional_update: false,
    schema: "io.k8s.api.storage.v1.CSINode",
    types: register::<Typed>,
    ..BASE
};

fn drivers_path() -> Path {
    Path::new("spec").child("drivers")
}

fn validate(node: &Value, errors: &mut Vec<FieldError>) {
    let drivers = node.list_at("/spec/drivers");
    for (i, driver) in drivers.iter().enumerate() {
        let path = drivers_path().index(i);
        let name = driver.str_at("/name");
        driver_name(name, &path.child("name"), errors);
        node_id(driver.str_at("/nodeID"), &path.child("nodeID"), errors);
        let count = driver.opt_i64("/allocatable/count");
        if let Some(count) = count.filter(|count| *count < 0) {
            let at = path.child("allocatable").child("count");
            errors.push(at.invalid(count, "must be greater than or equal to 0"));
        }
        if drivers[..i]
            .iter()
            .any(|other| other.str_at("/name") == name)
        {
            errors.push(path.child("name").duplicate(name));
        }
        topology_keys(driver.list_at("/topologyKeys"), &path, errors);
    }
}

fn driver_name(name: &str, at: &Path, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(at.required(""));
    }
    if name.len() > MAX_DRIVER_NAME {
        errors.push(at.too_long(MAX_DRIVER_NAME));
    }
    let wrong = names::subdomain(&name.to_lowercase());
    errors.extend(wrong.iter().map(|words| at.invalid(name, words)));
}

/// Whatever the storage calls the node.
fn node_id(id: &str, at: &Path, errors: &mut Vec<FieldError>) {
    if id.is_empty() {
        errors.push(at.required(""));
    }
    if id.len() > MAX_NODE_ID {
        let words = format!("must be {MAX_NODE_ID} characters or less");
        errors.push(at.invalid(id, &words));
    }
}

/// Errors are about the driver, as Kubernetes has them.
fn topology_keys(keys: &[Value], at: &Path, errors: &mut Vec<FieldError>) {
    for (i, key) in keys.iter().enumerate() {
        let text = key.as_str().unwrap_or_default();
        if text.is_empty() {
            errors.push(at.required(""));
        }
        if keys[..i].contains(key) {
            errors.push(at.duplicate(text));
        }
        let wrong = names::qualified(text);
        errors.extend(wrong.iter().map(|words| at.invalid(text, words)));
    }
}

/// Drivers come and go; one that stays changes only how many volumes it has room for (KEP-4876).
fn validate_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for before in old.list_at("/spec/drivers") {
        for after in new.list_at("/spec/drivers") {
            let same = before.str_at("/name") == after.str_at("/name");
            if same && lasting(before) != lasting(after) {
                errors.push(drivers_path().invalid(lasting(after), "field is immutable"));
            }
        }
    }
}

fn lasting(driver: &Value) -> Value {
    json!({
        "name": driver.str_at("/name"),
        "nodeID": driver.str_at("/nodeID"),
        "topologyKeys": driver.list_at("/topologyKeys"),
    })
}

#[cfg(test)]
mod tests;

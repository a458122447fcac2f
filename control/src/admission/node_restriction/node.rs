//! A node and its own Node.

use serde_json::Value;
use vetch_server::admission::{Attributes, Operation};

use super::labels;

pub fn decide(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    if attributes.name != node {
        return Err(format!(
            "node {node:?} is not allowed to modify node {:?}",
            attributes.name
        ));
    }
    match (attributes.operation, attributes.old) {
        (Operation::Create, _) => {
            let foreign = labels::forbidden(object, &Value::Null);
            if !foreign.is_empty() {
                return Err(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    foreign.join(", ")
                ));
            }
            Ok(())
        }
        (Operation::Update, Some(old)) => update(node, object, old),
        _ => Ok(()),
    }
}

fn update(node: &str, new: &Value, old: &Value) -> Result<(), String> {
    if differ(new.pointer("/spec/taints"), old.pointer("/spec/taints")) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    let foreign = labels::forbidden(new, old);
    if !foreign.is_empty() {
        return Err(format!(
            "is not allowed to modify labels: {}",
            foreign.join(", ")
        ));
    }
    let owners = "/metadata/ownerReferences";
    if differ(new.pointer(owners), old.pointer(owners)) {
        return Err(format!(
            "node {node:?} is not allowed to modify ownerReferences"
        ));
    }
    Ok(())
}

/// An empty list is as good as none.
fn differ(new: Option<&Value>, old: Option<&Value>) -> bool {
    let items = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    items(new) != items(old)
}

//! TaintNodesByCondition: a new node takes no pods before the node lifecycle controller has seen it ready.

use futures::future::{self, BoxFuture};
use serde_json::{Value, json};
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::Result;

use super::list;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

impl Admission for TaintNodesByCondition {
    fn admit<'a>(
        &'a self,
        _: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        let resource = attributes.resource;
        if attributes.operation == Operation::Create
            && resource.group.is_empty()
            && resource.plural == "nodes"
        {
            taint(object);
        }
        Box::pin(future::ready(Ok(Effects::default())))
    }
}

fn taint(node: &mut Value) {
    let tainted = list(node, "/spec/taints")
        .iter()
        .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule");
    if tainted {
        return;
    }
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
    match node["spec"]["taints"].as_array_mut() {
        Some(taints) => taints.push(taint),
        None => node["spec"]["taints"] = json!([taint]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_nodes_are_tainted_once() {
        let own = json!({"key": "a", "effect": "NoSchedule"});
        let ours = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let evicting = json!({"key": NOT_READY, "effect": "NoExecute"});
        for (spec, taints) in [
            (Value::Null, json!([ours])),
            (json!({"taints": [own]}), json!([own, ours])),
            (json!({"taints": [ours]}), json!([ours])),
            (json!({"taints": [evicting]}), json!([evicting, ours])),
        ] {
            let mut node = json!({"spec": spec});
            taint(&mut node);
            assert_eq!(node["spec"]["taints"], taints);
        }
    }
}

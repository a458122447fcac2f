//! NodeRestriction: a node writes what is its own, and nothing else.

mod certificate;
mod labels;
mod node;
mod pod;
mod volume;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use vetch_identity::User;
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

pub(super) struct NodeRestriction;

impl Admission for NodeRestriction {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        object: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            let Some(node) = node_name(attributes.user) else {
                return Ok(Effects::default());
            };
            if let Err(why) = decide(attributes, node, object) {
                return Err(Status::forbidden(
                    attributes.resource,
                    attributes.name,
                    &why,
                ));
            }
            let resource = attributes.resource;
            if attributes.operation == Operation::Create
                && (resource.group, resource.plural) == ("", "pods")
            {
                // A name can be registered anew; the uid tells that this is the node that is meant.
                let found = server.find("", "nodes", None, node).await?;
                pod::owner_lives(object, node, found.as_deref().map(|found| &found.value))
                    .map_err(|why| Status::forbidden(resource, attributes.name, &why))?;
            }
            Ok(Effects::default())
        }
        .boxed()
    }
}

/// The node this user is, where it is one.
fn node_name(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|_| user.is_in(GROUP))
}

/// The error is the reason of a Forbidden answer.
fn decide(attributes: &Attributes<'_>, node: &str, object: &Value) -> Result<(), String> {
    if node.is_empty() {
        return Err(format!(
            "unable to determine node from user {:?}",
            attributes.user.name
        ));
    }
    match (attributes.resource.group, attributes.resource.plural) {
        ("", "nodes") => node::decide(attributes, node, object),
        ("", "pods") => pod::decide(attributes, node, object),
        ("", "persistentvolumes") => volume::decide(attributes, node, object),
        ("coordination.k8s.io", "leases") => lease(attributes, node),
        ("storage.k8s.io", "csinodes") => csi_node(attributes, node),
        ("certificates.k8s.io", "certificatesigningrequests") => {
            certificate::decide(attributes, object)
        }
        _ => Ok(()),
    }
}

fn lease(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    if attributes.namespace != Some(LEASES) {
        return Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    if attributes.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn csi_node(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    match attributes.name == node {
        true => Ok(()),
        false => Err("can only access CSINode with the same name as the requesting node".into()),
    }
}

#[cfg(test)]
mod tests;

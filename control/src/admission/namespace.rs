//! NamespaceLifecycle: nothing new in a namespace that is missing or going; some namespaces stay.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::{Result, Status};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle;

impl Admission for NamespaceLifecycle {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        _: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects>> {
        async move {
            match attributes.operation {
                Operation::Delete if is_immortal(attributes) => {
                    let why = "this namespace may not be deleted";
                    return Err(Status::forbidden(attributes.resource, attributes.name, why));
                }
                Operation::Create => {
                    if let Some(namespace) = attributes.namespace {
                        let row = server.row("", "namespaces")?;
                        match server.find("", "namespaces", None, namespace).await? {
                            None => return Err(Status::not_found(row, namespace)),
                            Some(found) if is_terminating(&found.value) => {
                                return Err(terminating(attributes, namespace));
                            }
                            Some(_) => {}
                        }
                    }
                }
                _ => {}
            }
            Ok(Effects::default())
        }
        .boxed()
    }
}

fn is_immortal(attributes: &Attributes<'_>) -> bool {
    attributes.resource.group.is_empty()
        && attributes.resource.plural == "namespaces"
        && IMMORTAL.contains(&attributes.name)
}

fn is_terminating(namespace: &Value) -> bool {
    namespace["status"]["phase"] == "Terminating"
        || !namespace["metadata"]["deletionTimestamp"].is_null()
}

fn terminating(attributes: &Attributes<'_>, namespace: &str) -> Status {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut status = Status::forbidden(attributes.resource, attributes.name, &why);
    if let Some(details) = &mut status.details {
        details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_ends_with_its_deletion_or_its_phase() {
        for (namespace, ends) in [
            (json!({"status": {"phase": "Active"}}), false),
            (json!({"status": {"phase": "Terminating"}}), true),
            (
                json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
                true,
            ),
        ] {
            assert_eq!(is_terminating(&namespace), ends, "{namespace}");
        }
    }
}

//! What every write shares: the request, the state it starts from, the fields the server owns.

mod create;
mod generate;
mod update;

pub(crate) use update::Allow;

use std::sync::Arc;

use serde_json::{Value, json};
use vetch_api::resource::{FieldError, Resource, SubresourceKind};
use vetch_identity::User;
use vetch_store::{Object, Write};

use crate::admission::{Attributes, Operation};
use crate::output::{Form, Include};
use crate::read::current;
use crate::request::{Query, Target};
use crate::state::Server;
use crate::status::{Result, Status};

/// How often a write that lost a race is tried anew before the client is told.
pub(crate) const ATTEMPTS: usize = 8;

/// A write request, taken apart.
pub(crate) struct Request<'a> {
    pub server: &'a Server,
    pub target: &'a Target,
    pub query: &'a Query,
    pub user: &'a User,
    pub form: Form,
}

/// The state a write starts from.
pub(crate) struct Base {
    pub object: Arc<Object>,
    /// Nothing newer was acknowledged before the request. Otherwise the cache's word: good enough to write on, as
    /// etcd confirms it, not to refuse on.
    pub fresh: bool,
}

impl Request<'_> {
    pub(crate) fn name(&self) -> &str {
        self.target.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn include(&self) -> Include {
        Include::parse(self.query.text("includeObject"))
    }

    pub(crate) fn attributes<'b>(
        &'b self,
        operation: Operation,
        name: &'b str,
        old: Option<&'b Value>,
        dry_run: bool,
    ) -> Attributes<'b> {
        Attributes {
            operation,
            user: self.user,
            resource: self.target.resource,
            subresource: self.target.subresource.map_or("", |sub| sub.name),
            namespace: self.target.namespace.as_deref(),
            name,
            old,
            dry_run,
        }
    }

    /// From memory for the first attempt, from etcd's present afterwards.
    pub(crate) async fn base(&self, attempt: usize) -> Result<Base> {
        let name = self.name();
        let known = match attempt {
            1 => self
                .server
                .cache(self.target.resource)?
                .get(&self.target.key(name)),
            _ => None,
        };
        match known {
            Some(object) => Ok(Base {
                object,
                fresh: false,
            }),
            None => Ok(Base {
                object: current(self.server, self.target, name).await?,
                fresh: true,
            }),
        }
    }
}

/// metadata.namespace must be the path's, and is filled from it.
pub(crate) fn set_namespace(target: &Target, object: &mut Value) -> Result<()> {
    let Some(namespace) = &target.namespace else {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        return Ok(());
    };
    match object["metadata"]["namespace"].as_str() {
        Some(own) if !own.is_empty() && own != namespace => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => {
            object["metadata"]["namespace"] = namespace.as_str().into();
            Ok(())
        }
    }
}

fn ensure_metadata(object: &mut Value) {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
}

fn refuse_invalid(resource: &Resource, object: &Value, errors: &[FieldError]) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid(resource, name, errors))
}

/// The object's own value, back from the transaction's first write.
fn written(writes: Vec<Write>) -> Value {
    match writes.into_iter().next() {
        Some(Write::Put(_, value)) => value,
        _ => Value::Null,
    }
}

/// metav1.Time: RFC 3339 in whole seconds.
pub(crate) fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Deleted, past its grace period, and held by no finalizer.
pub(crate) fn is_finished(resource: &Resource, object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            == 0
        && !is_held(resource, object)
}

/// Some finalizer keeps the object: metadata.finalizers, or spec.finalizers where the kind has a
/// finalize subresource (namespaces).
pub(crate) fn is_held(resource: &Resource, object: &Value) -> bool {
    let any = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    any(&object["metadata"]["finalizers"])
        || (finalizes(resource) && any(&object["spec"]["finalizers"]))
}

pub(crate) fn finalizes(resource: &Resource) -> bool {
    resource
        .subresources
        .iter()
        .any(|sub| matches!(sub.kind, SubresourceKind::Finalize))
}

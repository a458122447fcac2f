//! Who asks, and whether they may: the server's view of identity.

use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use vetch_identity::User;

pub use crate::selector::FieldSelector;
use crate::state::Server;
use crate::status::Status;

/// What a user wants to do, in authorisation's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    /// Plural; empty for paths that name no resource.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// What a list or watch is narrowed to; `None` for other verbs and for a selector nobody can read.
    pub fields: Option<&'a FieldSelector>,
    /// For paths that name no resource.
    pub path: &'a str,
}

pub trait Guard: Send + Sync {
    /// `None`: 401.
    fn authenticate<'a>(
        &'a self,
        server: &'a Server,
        headers: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>>;

    /// `Err` says why not, behind Kubernetes' own sentence; it may be empty.
    fn authorize<'a>(
        &'a self,
        server: &'a Server,
        user: &'a User,
        action: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Kubernetes' Forbidden; its resource need not be one that is served.
pub(crate) fn forbidden(user: &User, action: &Action<'_>, why: &str) -> Status {
    let told = refusal(user, action, why);
    let resource = match action.group {
        "" => action.resource.to_owned(),
        group => format!("{}.{group}", action.resource),
    };
    let message = match (resource.as_str(), action.name) {
        ("", _) => format!("forbidden: {told}"),
        (resource, "") => format!("{resource} is forbidden: {told}"),
        (resource, name) => format!("{resource} {name:?} is forbidden: {told}"),
    };
    let details: Map<String, Value> = [
        ("name", action.name),
        ("group", action.group),
        ("kind", action.resource),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(field, text)| (field.to_owned(), text.into()))
    .collect();
    Status {
        details: Some(details.into()),
        ..Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }
}

/// Kubernetes' sentence for a refused action.
fn refusal(user: &User, action: &Action<'_>, why: &str) -> String {
    let mut text = if action.resource.is_empty() {
        format!(
            "User {:?} cannot {} path {:?}",
            user.name, action.verb, action.path
        )
    } else {
        let resource = match action.subresource {
            "" => action.resource.to_owned(),
            sub => format!("{}/{sub}", action.resource),
        };
        let place = match action.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            user.name, action.verb, action.group
        )
    };
    if !why.is_empty() {
        text.push_str(": ");
        text.push_str(why);
    }
    text
}

//! What a request is about by the form of its path alone, as authorisation sees it, served here or not: Kubernetes'
//! RequestInfo. So who may not hears that a resource is closed to them, and only who may hears that there is none.

use http::Method;

use super::{Target, segments, verb};
use crate::guard::{Action, FieldSelector};
use crate::status::{Result, Status};

/// Kubernetes tells a namespace's own subresources from resources in it by these.
const OF_NAMESPACES: [&str; 2] = ["status", "finalize"];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestInfo<'a> {
    /// Empty for methods that are no verb.
    pub verb: &'static str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// A namespace is within itself.
    pub namespace: &'a str,
    pub name: &'a str,
    /// The verb is in the path (`/api/v1/watch/pods`), as old clients wrote it; selectors are nothing to it.
    verb_in_path: bool,
}

impl<'a> RequestInfo<'a> {
    /// `None`: the path names no resource, but is one by itself. Refused is one that names a verb and nothing else.
    pub fn parse(method: &Method, path: &'a str, watch: bool) -> Result<Option<RequestInfo<'a>>> {
        let segments: Vec<&str> = segments(path).collect();
        let (group, named) = match segments.as_slice() {
            ["api", _, named @ ..] => ("", named),
            ["apis", group, _, named @ ..] => (*group, named),
            _ => return Ok(None),
        };
        let (written, named) = match named {
            [] => return Ok(None),
            ["watch", named @ ..] => (Some("watch"), named),
            ["proxy", named @ ..] => (Some("proxy"), named),
            named => (None, named),
        };
        let (namespace, named) = match named {
            ["namespaces", namespace, sub, ..] if OF_NAMESPACES.contains(sub) => {
                (*namespace, named)
            }
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            ["namespaces", namespace] => (*namespace, named),
            named => ("", named),
        };
        let [resource, rest @ ..] = named else {
            return Err(Status::internal(format!(
                "unable to determine kind and namespace from url, {path}"
            )));
        };
        let (resource, name) = (*resource, rest.first().copied().unwrap_or_default());
        let subresource = match written {
            Some("proxy") => "",
            _ => rest.get(1).copied().unwrap_or_default(),
        };
        Ok(Some(RequestInfo {
            verb: written.unwrap_or_else(|| verb(method, !name.is_empty(), watch)),
            group,
            resource,
            subresource,
            namespace,
            name,
            verb_in_path: written.is_some(),
        }))
    }

    /// Of what is served: what is allowed is what will be done.
    pub fn of(target: &'a Target, method: &Method, watch: bool) -> RequestInfo<'a> {
        let name = target.name.as_deref().unwrap_or_default();
        RequestInfo {
            verb: target.verb(method, watch),
            group: target.resource.group,
            resource: target.resource.plural,
            subresource: target.subresource.map_or("", |sub| sub.name),
            namespace: match &target.namespace {
                Some(namespace) => namespace.as_str(),
                None if target.resource.plural == "namespaces" => name,
                None => "",
            },
            name,
            verb_in_path: false,
        }
    }

    /// Whether a selector narrows what the request touches.
    pub fn selects(&self) -> bool {
        !self.verb_in_path && matches!(self.verb, "list" | "watch" | "deletecollection")
    }

    pub fn action(&self, path: &'a str, fields: Option<&'a FieldSelector>) -> Action<'a> {
        // A list pinned to one name is a request for that name.
        let pinned = || {
            let reads = matches!(self.verb, "list" | "watch");
            let name = fields.filter(|_| reads)?.name()?;
            (!matches!(name, "." | "..") && !name.contains(['/', '%'])).then_some(name)
        };
        Action {
            verb: self.verb,
            group: self.group,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            name: match self.name {
                "" => pinned().unwrap_or_default(),
                name => name,
            },
            fields,
            path,
        }
    }
}

#[cfg(test)]
mod tests;

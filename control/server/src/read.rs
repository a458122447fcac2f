//! GET of one object and of collections, from the cache.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vetch_api::resource::Resource;
use vetch_store::Object;

use crate::output::{Form, Include, api_version, partial, table};
use crate::request::{Query, Target};
use crate::state::{Server, presented};
use crate::status::{Result, Status};

pub(crate) fn json_response(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// One object in the form the client asked for.
pub(crate) fn object_response(
    code: StatusCode,
    resource: &Resource,
    object: &Object,
    form: Form,
    include: Include,
) -> Response {
    let body = match form {
        Form::Object => object_bytes(resource, object),
        Form::Partial => Bytes::from(partial(&object.value).to_string()),
        Form::Table => {
            let value = presented(resource, object);
            let metadata = json!({"resourceVersion": object.revision.to_string()});
            table(resource, std::iter::once(&value), include, true, metadata)
                .to_string()
                .into()
        }
    };
    json_response(code, body)
}

/// The object in the row's version; the cached bytes where that is the stored version.
pub(crate) fn object_bytes(resource: &Resource, object: &Object) -> Bytes {
    match object.value["apiVersion"] == api_version(resource).as_str() {
        true => object.json(),
        false => presented(resource, object).to_string().into(),
    }
}

/// The object as it is now: what was acknowledged before this request is seen.
pub(crate) async fn current(server: &Server, target: &Target, name: &str) -> Result<Arc<Object>> {
    let cache = server.cache(target.resource)?;
    cache
        .wait_for(server.store.current_revision().await?)
        .await?;
    cache
        .get(&target.key(name))
        .ok_or_else(|| Status::not_found(target.resource, name))
}

pub(crate) async fn get(
    server: &Server,
    target: &Target,
    query: &Query,
    form: Form,
) -> Result<Response> {
    let name = target.name.as_deref().unwrap_or_default();
    let object = match query.resource_version()? {
        // "Any version" and "at least this one" may come from memory.
        Some(revision) => {
            let cache = server.cache(target.resource)?;
            cache.wait_for(revision).await?;
            cache
                .get(&target.key(name))
                .ok_or_else(|| Status::not_found(target.resource, name))?
        }
        None => current(server, target, name).await?,
    };
    let include = Include::parse(query.text("includeObject"));
    Ok(object_response(
        StatusCode::OK,
        target.resource,
        &object,
        form,
        include,
    ))
}

const TOO_OLD_TOKEN: &str = "The provided continue parameter is too old to display a consistent list result. You can \
                             start a new list without the continue parameter.";

/// Where the next page of a list begins.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Continue {
    #[serde(rename = "rv")]
    revision: i64,
    /// The first key of the next page.
    start: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str, prefix: &str) -> Result<Continue> {
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Continue>(&bytes).ok())
            // A token from another collection must not read outside this one.
            .filter(|token| token.start.starts_with(prefix))
            .ok_or_else(|| {
                Status::bad_request(
                    "continue key is not valid: illegal base64 data or foreign token",
                )
            })
    }
}

struct Page {
    objects: Vec<Arc<Object>>,
    revision: i64,
    next: Option<Continue>,
    remaining: Option<usize>,
}

pub(crate) async fn list(
    server: &Server,
    target: &Target,
    query: &Query,
    form: Form,
) -> Result<Response> {
    let resource = target.resource;
    let labels = query.labels()?;
    let fields = query.fields()?;
    fields.check(&(resource.selectable_fields)(&Value::Null))?;
    let selected = |object: &Arc<Object>| {
        labels.matches(&object.value) && fields.matches(&object.value, resource.selectable_fields)
    };
    let unfiltered = labels.is_empty() && fields.is_empty();
    let page = page(server, target, query, selected, unfiltered).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = next.encode().into();
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
    }
    let body: Bytes = match form {
        Form::Object => {
            let items = page
                .objects
                .iter()
                .map(|object| object_bytes(resource, object));
            list_bytes(
                &format!("{}List", resource.kind),
                &api_version(resource),
                &metadata,
                items,
            )
        }
        Form::Partial => {
            let items = page
                .objects
                .iter()
                .map(|object| Bytes::from(partial(&object.value).to_string()));
            list_bytes(
                "PartialObjectMetadataList",
                "meta.k8s.io/v1",
                &metadata,
                items,
            )
        }
        Form::Table => {
            let values: Vec<Value> = page
                .objects
                .iter()
                .map(|object| presented(resource, object))
                .collect();
            let include = Include::parse(query.text("includeObject"));
            table(resource, values.iter(), include, true, metadata)
                .to_string()
                .into()
        }
    };
    Ok(json_response(StatusCode::OK, body))
}

/// Puts a list together from items already serialised.
fn list_bytes(
    kind: &str,
    version: &str,
    metadata: &Value,
    items: impl Iterator<Item = Bytes>,
) -> Bytes {
    let mut body = format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
    )
    .into_bytes();
    for (index, item) in items.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

async fn page(
    server: &Server,
    target: &Target,
    query: &Query,
    selected: impl Fn(&Arc<Object>) -> bool,
    unfiltered: bool,
) -> Result<Page> {
    let prefix = target.collection_prefix();
    let limit = query
        .number("limit")?
        .filter(|limit| *limit > 0)
        .map(|limit| limit as usize);
    // Where nothing is filtered out, etcd need not send more than the page and the key after it.
    let needed = limit.filter(|_| unfiltered).map_or(0, |limit| limit + 1);
    let (objects, total, revision) = match query.text("continue") {
        Some(token) => {
            if query.resource_version()?.is_some_and(|version| version > 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let token = Continue::decode(token, &prefix)?;
            let (objects, total) = past(server, target, &token.start, token.revision, needed)
                .await
                .map_err(|status| {
                    if status.reason == "Expired" {
                        Status::expired(TOO_OLD_TOKEN)
                    } else {
                        status
                    }
                })?;
            (objects, total, token.revision)
        }
        None => listing(server, target, query, needed).await?,
    };
    let mut taken = 0;
    let mut page = Vec::new();
    let mut next = None;
    for object in objects {
        if limit.is_some_and(|limit| page.len() >= limit) {
            next = Some(Continue {
                revision,
                start: object.key.clone(),
            });
            break;
        }
        taken += 1;
        if selected(&object) {
            page.push(object);
        }
    }
    // A selector makes the count unknown; Kubernetes leaves it out then.
    let remaining = (next.is_some() && unfiltered).then(|| total.saturating_sub(taken));
    Ok(Page {
        objects: page,
        revision,
        next,
        remaining,
    })
}

/// Objects, how many there are in all, and their revision.
type Listed = (Vec<Arc<Object>>, usize, i64);

/// The objects at the version the client can accept.
async fn listing(server: &Server, target: &Target, query: &Query, needed: usize) -> Result<Listed> {
    let cache = server.cache(target.resource)?;
    let prefix = target.collection_prefix();
    let exact = match query.text("resourceVersionMatch") {
        None | Some("NotOlderThan") => false,
        Some("Exact") => true,
        Some(other) => {
            return Err(Status::bad_request(format!(
                "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    };
    match query.resource_version()? {
        None if query.text("resourceVersionMatch").is_some() => {
            return Err(Status::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        None => {
            cache
                .wait_for(server.store.current_revision().await?)
                .await?
        }
        Some(0) if exact => {
            return Err(Status::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            ));
        }
        Some(revision) if exact => {
            let (objects, total) = past(server, target, &prefix, revision, needed).await?;
            return Ok((objects, total, revision));
        }
        Some(revision) => cache.wait_for(revision).await?,
    }
    let listing = cache.list(&prefix);
    let total = listing.objects.len();
    Ok((listing.objects, total, listing.revision))
}

/// The objects of an earlier moment: later pages show the first page's. From memory while the window reaches back.
async fn past(
    server: &Server,
    target: &Target,
    start: &str,
    revision: i64,
    needed: usize,
) -> Result<(Vec<Arc<Object>>, usize)> {
    let prefix = target.collection_prefix();
    if let Some(objects) = server
        .cache(target.resource)?
        .list_at(&prefix, start, revision)
    {
        let total = objects.len();
        return Ok((objects, total));
    }
    Ok(server
        .store
        .list_at(&prefix, start, revision, needed)
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_stays_in_its_collection() {
        let token = Continue {
            revision: 7,
            start: "/registry/pods/a/x".into(),
        };
        let text = token.encode();
        assert_eq!(Continue::decode(&text, "/registry/pods/a/").unwrap(), token);
        assert!(Continue::decode(&text, "/registry/pods/b/").is_err());
        assert!(Continue::decode("nonsense", "/registry/pods/a/").is_err());
    }
}

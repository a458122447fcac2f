//! The three kinds of patch, by media type.

mod json;

use http::HeaderMap;
use serde_json::Value;

use crate::body::media_type;
use crate::status::{Result, Status};

/// A patch, parsed but not applied.
pub(crate) enum Patch {
    /// RFC 6902
    Json(json_patch::Patch),
    /// RFC 7386
    Merge(Value),
    /// Kubernetes' own, which knows lists by their merge keys.
    Strategic(Value),
}

impl Patch {
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Patch> {
        match media_type(headers) {
            "application/json-patch+json" => Ok(Patch::Json(json::parse(body)?)),
            "application/merge-patch+json" => Ok(Patch::Merge(object(body)?)),
            "application/strategic-merge-patch+json" => Ok(Patch::Strategic(object(body)?)),
            "application/apply-patch+yaml" => Err(Status::unsupported_media_type(
                "server-side apply (application/apply-patch+yaml) is not served here - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
            media => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format ({media}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json"
            ))),
        }
    }

    /// Whether the patch itself says which version it is for.
    pub fn names_version(&self) -> bool {
        match self {
            Patch::Json(patch) => patch
                .iter()
                .any(|operation| operation.path().as_str() == "/metadata/resourceVersion"),
            Patch::Merge(patch) | Patch::Strategic(patch) => patch["metadata"]["resourceVersion"]
                .as_str()
                .is_some_and(|version| !version.is_empty()),
        }
    }

    pub fn apply(&self, object: &Value, schema: &str) -> Result<Value> {
        let mut patched = object.clone();
        match self {
            Patch::Json(patch) => json::apply(patch, &mut patched)?,
            Patch::Merge(patch) => json_patch::merge(&mut patched, patch),
            Patch::Strategic(patch) => {
                return vetch_api::merge::strategic_merge(object, patch, schema)
                    .map_err(|error| Status::bad_request(error.to_string()));
            }
        }
        Ok(patched)
    }
}

fn object(body: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Status::bad_request(
            "error decoding patch: the patch is no JSON object",
        )),
    }
}

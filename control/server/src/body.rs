//! Request bodies: media type, strict decoding, and the words for what is wrong with them.

use http::{HeaderMap, header};
use serde_json::Value;
use vetch_api::decode::{decode_schema, strict_error};
use vetch_api::resource::{DecodeError, Decoded, Resource};

use crate::request::Query;
use crate::status::{Result, Status};
use crate::warnings::Warnings;

/// How much of a body is shown to a client that sent nonsense.
const SHOWN: usize = 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Ignore,
    Warn,
    Strict,
}

impl Strictness {
    fn parse(query: &Query) -> Result<Strictness> {
        match query.text("fieldValidation") {
            Some("Ignore") => Ok(Strictness::Ignore),
            Some("Strict") => Ok(Strictness::Strict),
            Some("Warn") | None => Ok(Strictness::Warn),
            Some(other) => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// The body's media type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    media.split(';').next().unwrap_or_default().trim()
}

/// Only JSON is read, and protobuf that became JSON at the door; who sends something else is told so.
pub(crate) fn json_only(headers: &HeaderMap) -> Result<()> {
    match media_type(headers) {
        "" | "application/json" | vetch_api::decode::PROTOBUF => Ok(()),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: \
             application/json, application/vnd.kubernetes.protobuf"
        ))),
    }
}

/// A whole object of this kind, and what strict decoding found, where the client asked to be warned.
pub(crate) fn decode(resource: &Resource, query: &Query, body: &[u8]) -> Result<(Value, Warnings)> {
    read(query, body, (resource.version, resource.kind), |value| {
        check_kind(resource, &value)?;
        (resource.decode)(value).map_err(|error| Status::bad_request(error.message))
    })
}

/// What a patch has made of an object; `patch` is shown to the client when that is no such object.
pub(crate) fn decode_patched(
    resource: &Resource,
    query: &Query,
    patched: Value,
    patch: &[u8],
) -> Result<(Value, Warnings)> {
    read_patched(query, patch, || (resource.decode)(patched))
}

/// What a subresource is written by, where that is no row's kind.
pub(crate) struct Asked {
    pub schema: &'static str,
    pub api_version: &'static str,
    pub kind: &'static str,
}

pub(crate) const SCALE: Asked = Asked {
    schema: "io.k8s.api.autoscaling.v1.Scale",
    api_version: "autoscaling/v1",
    kind: "Scale",
};

pub(crate) const BINDING: Asked = Asked {
    schema: "io.k8s.api.core.v1.Binding",
    api_version: "v1",
    kind: "Binding",
};

impl Asked {
    pub fn decode(&self, query: &Query, body: &[u8]) -> Result<(Value, Warnings)> {
        let (_, version) = self
            .api_version
            .split_once('/')
            .unwrap_or(("", self.api_version));
        read(query, body, (version, self.kind), |value| {
            self.typed(value)
                .map_err(|error| Status::bad_request(error.message))
        })
    }

    pub fn decode_patched(
        &self,
        query: &Query,
        patched: Value,
        patch: &[u8],
    ) -> Result<(Value, Warnings)> {
        read_patched(query, patch, || self.typed(patched))
    }

    fn typed(&self, value: Value) -> Result<Decoded, DecodeError> {
        decode_schema(self.schema, self.api_version, self.kind, value)
    }
}

/// `version` and `kind` are those that are wanted.
fn read(
    query: &Query,
    body: &[u8],
    (version, kind): (&str, &str),
    decode: impl FnOnce(Value) -> Result<Decoded>,
) -> Result<(Value, Warnings)> {
    let strictness = Strictness::parse(query)?;
    let (value, duplicates) = vetch_api::decode::json(body).map_err(|cause| {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {cause} ({})",
            summary(body)
        ))
    })?;
    let mut decoded = decode(value)?;
    decoded.warnings.splice(0..0, duplicates);
    if strictness == Strictness::Strict && !decoded.warnings.is_empty() {
        let error = strict_error(version, kind, &decoded.warnings);
        return Err(Status::bad_request(error.message));
    }
    Ok(warned(strictness, decoded))
}

fn read_patched(
    query: &Query,
    patch: &[u8],
    decode: impl FnOnce() -> Result<Decoded, DecodeError>,
) -> Result<(Value, Warnings)> {
    let strictness = Strictness::parse(query)?;
    let decoded = decode().map_err(|error| Status::invalid_patch(patch, &error.message))?;
    if strictness == Strictness::Strict && !decoded.warnings.is_empty() {
        let found = format!("strict decoding error: {}", decoded.warnings.join(", "));
        return Err(Status::invalid_patch(patch, &found));
    }
    Ok(warned(strictness, decoded))
}

fn warned(strictness: Strictness, decoded: Decoded) -> (Value, Warnings) {
    let warnings = if strictness == Strictness::Ignore {
        Vec::new()
    } else {
        decoded.warnings
    };
    (decoded.value, warnings)
}

/// A body may leave out its kind; it may not name another.
fn check_kind(resource: &Resource, object: &Value) -> Result<()> {
    let wanted = resource.api_version();
    let text = |field: &str, default: &str| match object[field].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => default.to_owned(),
    };
    let (version, kind) = (text("apiVersion", &wanted), text("kind", resource.kind));
    if (version.as_str(), kind.as_str()) == (wanted.as_str(), resource.kind) {
        return Ok(());
    }
    let (group, short) = version.split_once('/').unwrap_or(("", &version));
    let known = vetch_api::registry::find_kind(group, short, &kind).is_some();
    let cause = match known {
        true => {
            let package = match resource.group.split('.').next() {
                Some("") | None => "core",
                Some(group) => group,
            };
            format!(
                "converting ({short}.{kind}) to ({package}.{}): unknown conversion",
                resource.kind
            )
        }
        false => format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        ),
    };
    Err(Status::bad_request(format!(
        "{kind} in version {short:?} cannot be handled as a {}: {cause}",
        resource.kind
    )))
}

fn summary(body: &[u8]) -> String {
    let cut = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => format!(
            "{}{more}",
            cut.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> &'static Resource {
        vetch_api::find("", "v1", "pods").unwrap()
    }

    #[test]
    fn nonsense_is_named() {
        let query = Query::parse(&"/?fieldValidation=Strict".parse().unwrap());
        for (body, told) in [
            (
                "",
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: ",
            ),
            (
                r#"{"kind":"Service","apiVersion":"v1"}"#,
                "Service in version \"v1\" cannot be handled as a Pod: converting (v1.Service) to (core.Pod): unknown conversion",
            ),
            (
                r#"{"kind":"Foo","apiVersion":"x/v2"}"#,
                "Foo in version \"v2\" cannot be handled as a Pod: no kind \"Foo\" is registered for version \"x/v2\"",
            ),
            (
                r#"{"kind":"Pod","apiVersion":"v1","spec":{"foo":1}}"#,
                "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.foo\"",
            ),
        ] {
            let status = decode(pods(), &query, body.as_bytes()).unwrap_err();
            assert!(
                status.message.starts_with(told),
                "{body}: {}",
                status.message
            );
            assert_eq!((status.code.as_u16(), status.reason), (400, "BadRequest"));
        }
        let patch = br#"{"spec":{"foo":1}}"#;
        let status = decode_patched(
            pods(),
            &query,
            serde_json::from_slice(patch).unwrap(),
            patch,
        )
        .unwrap_err();
        assert_eq!(
            status.message,
            " \"\" is invalid: patch: Invalid value: \"{\\\"spec\\\":{\\\"foo\\\":1}}\": strict decoding error: unknown field \"spec.foo\""
        );
        assert_eq!(status.code.as_u16(), 422);
    }

    #[test]
    fn what_subresources_are_written_by_is_typed() {
        let query = Query::parse(&"/?fieldValidation=Strict".parse().unwrap());
        for (asked, body, told) in [
            (SCALE, r#"{"spec":{"replicas":2147483647}}"#, None),
            (BINDING, r#"{"target":{"name":"n"}}"#, None),
            (
                SCALE,
                r#"{"spec":{"replicas":2147483648}}"#,
                Some(
                    "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal number 2147483648 into Go ",
                ),
            ),
            (
                SCALE,
                r#"{"spec":{"replicas":"2"}}"#,
                Some(
                    "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field ",
                ),
            ),
            (
                SCALE,
                r#"{"spec":{"replica":2}}"#,
                Some(
                    "Scale in version \"v1\" cannot be handled as a Scale: strict decoding error: unknown field \"spec.replica\"",
                ),
            ),
            (
                SCALE,
                r#"{"kind":"Deployment","apiVersion":"apps/v1"}"#,
                Some("Deployment in version \"v1\" cannot be handled as a Scale: "),
            ),
            (
                SCALE,
                "[]",
                Some("couldn't get version/kind; json parse error: "),
            ),
            (
                SCALE,
                "",
                Some("the object provided is unrecognized (must be of type Scale): "),
            ),
            (
                BINDING,
                r#"{"metadata":{"annotations":{"a":1}},"target":{"name":"n"}}"#,
                Some(
                    "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal number into Go struct field ",
                ),
            ),
            (
                BINDING,
                r#"{"target":{"name":["n"]}}"#,
                Some(
                    "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal array into Go struct field ",
                ),
            ),
        ] {
            let found = asked.decode(&query, body.as_bytes());
            let Some(told) = told else {
                assert!(found.is_ok(), "{body}");
                continue;
            };
            let status = found.unwrap_err();
            let message = &status.message;
            assert!(message.starts_with(told), "{body}: {message}");
            assert_eq!((status.code.as_u16(), status.reason), (400, "BadRequest"));
        }
        let patch = br#"{"spec":{"replicas":3000000000}}"#;
        let patched = serde_json::from_slice(patch).unwrap();
        let status = SCALE.decode_patched(&query, patched, patch).unwrap_err();
        assert_eq!(status.code.as_u16(), 422);
    }
}

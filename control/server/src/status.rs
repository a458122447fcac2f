//! metav1.Status: every refusal in Kubernetes' shape and words.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use vetch_api::resource::{FieldError, Resource};

/// A refusal. Becomes a Status object with its HTTP code.
#[derive(Clone, Debug)]
pub struct Status {
    pub code: StatusCode,
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Value>,
}

pub type Result<T, E = Status> = std::result::Result<T, E>;

/// `deployments.apps`, or `pods` in the core group.
pub fn qualified(resource: &Resource) -> String {
    dotted(resource.group, resource.plural)
}

fn dotted(group: &str, plural: &str) -> String {
    match group {
        "" => plural.to_owned(),
        group => format!("{plural}.{group}"),
    }
}

pub(crate) fn details(resource: &Resource, name: &str) -> Value {
    details_of(resource.group, resource.plural, name)
}

fn details_of(group: &str, kind: &str, name: &str) -> Value {
    let mut map = Map::new();
    if !name.is_empty() {
        map.insert("name".into(), name.into());
    }
    if !group.is_empty() {
        map.insert("group".into(), group.into());
    }
    map.insert("kind".into(), kind.into());
    map.into()
}

impl Status {
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub fn not_found(resource: &Resource, name: &str) -> Status {
        let message = format!("{} {name:?} not found", qualified(resource));
        let details = Some(details(resource, name));
        Status {
            details,
            ..Status::new(StatusCode::NOT_FOUND, "NotFound", message)
        }
    }

    /// No such path; Kubernetes' generic answer.
    pub fn no_route() -> Status {
        Status::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub fn already_exists(resource: &Resource, name: &str) -> Status {
        let message = format!("{} {name:?} already exists", qualified(resource));
        let details = Some(details(resource, name));
        Status {
            details,
            ..Status::new(StatusCode::CONFLICT, "AlreadyExists", message)
        }
    }

    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
        Status::conflict_on(resource.group, resource.plural, name, why)
    }

    /// `plural` may be a subresource's: `pods/binding`.
    pub(crate) fn conflict_on(group: &str, plural: &str, name: &str, why: &str) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            dotted(group, plural)
        );
        Status {
            details: Some(details_of(group, plural, name)),
            ..Status::new(StatusCode::CONFLICT, "Conflict", message)
        }
    }

    /// The object changed since the client read it.
    pub fn modified(resource: &Resource, name: &str) -> Status {
        Status::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Status {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(resource));
        let details = Some(details(resource, name));
        Status {
            details,
            ..Status::new(StatusCode::FORBIDDEN, "Forbidden", message)
        }
    }

    pub fn method_not_allowed() -> Status {
        Status::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Status {
        Status::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            message,
        )
    }

    pub fn too_large(why: &str) -> Status {
        Status::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: {why}"),
        )
    }

    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(StatusCode::GONE, "Expired", message)
    }

    pub fn internal(message: impl Into<String>) -> Status {
        let message = format!("Internal error occurred: {}", message.into());
        Status::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Validation failed: one cause a field.
    pub fn invalid(resource: &Resource, name: &str, errors: &[FieldError]) -> Status {
        Status::invalid_kind(resource.group, resource.kind, name, errors)
    }

    /// Of a kind that is no row's.
    pub(crate) fn invalid_kind(
        group: &str,
        kind: &str,
        name: &str,
        errors: &[FieldError],
    ) -> Status {
        let mut details = Map::new();
        details.insert("name".into(), name.into());
        if !group.is_empty() {
            details.insert("group".into(), group.into());
        }
        details.insert("kind".into(), kind.into());
        let message = vetch_api::field::invalid_message(group, kind, name, errors);
        Status::invalid_with(message, details, errors)
    }

    /// A patch that makes no such object; Kubernetes names neither kind nor object here.
    pub fn invalid_patch(patch: &[u8], why: &str) -> Status {
        let shown = Value::from(String::from_utf8_lossy(patch));
        let error = FieldError {
            reason: "FieldValueInvalid",
            field: "patch".into(),
            message: format!("Invalid value: {shown}: {why}"),
        };
        Status::invalid_with(format!(" \"\" is invalid: {error}"), Map::new(), &[error])
    }

    fn invalid_with(
        message: String,
        mut details: Map<String, Value>,
        errors: &[FieldError],
    ) -> Status {
        let causes: Vec<Value> = errors
            .iter()
            .map(|error| json!({"reason": error.reason, "message": error.message, "field": error.field}))
            .collect();
        details.insert("causes".into(), causes.into());
        Status {
            details: Some(details.into()),
            ..Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        }
    }

    pub fn to_value(&self) -> Value {
        let mut object = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code.as_u16(),
        });
        if !self.reason.is_empty() {
            object["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            object["details"] = details.clone();
        }
        object
    }
}

/// The Status that tells of success, for deletes that leave nothing behind.
pub fn success(resource: &Resource, name: &str, uid: Option<&Value>) -> Value {
    let mut details = details(resource, name);
    if let Some(uid) = uid {
        details["uid"] = uid.clone();
    }
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    })
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let mut response = (self.code, self.to_value().to_string()).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if self.code == StatusCode::TOO_MANY_REQUESTS
            || self.code == StatusCode::SERVICE_UNAVAILABLE
        {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A store error about the object `name` of `resource`.
pub fn from_store(resource: &Resource, name: &str) -> impl Fn(vetch_store::Error) -> Status {
    move |error| match error {
        vetch_store::Error::Exists { .. } => Status::already_exists(resource, name),
        vetch_store::Error::NotFound { .. } => Status::not_found(resource, name),
        vetch_store::Error::Conflict { .. } => Status::modified(resource, name),
        other => Status::from(other),
    }
}

impl From<vetch_store::Error> for Status {
    fn from(error: vetch_store::Error) -> Status {
        match error {
            vetch_store::Error::Expired { .. } => Status::expired(error.to_string()),
            vetch_store::Error::Future { .. } => Status {
                details: Some(json!({
                    "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                    "retryAfterSeconds": 1,
                })),
                ..Status::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", error.to_string())
            },
            vetch_store::Error::Unavailable(ref cause) => Status::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                format!("etcdserver: request failed: {cause}"),
            ),
            other => Status::internal(other.to_string()),
        }
    }
}

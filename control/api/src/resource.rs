//! One row a kind: everything the server needs to serve a resource without knowing its name.
//! (Skeleton by the architect; the api builder owns and extends it, the server builder codes against it.)

use serde_json::Value;

/// A row of the registry. Objects travel as `serde_json::Value` that passed `decode`.
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// `pods`
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    /// `all`
    pub categories: &'static [&'static str],
    pub namespaced: bool,
    /// Below `/registry/`: `pods`, `services/specs`, `minions`...; key = `/registry/<prefix>/[<ns>/]<name>`.
    pub storage_prefix: &'static str,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Checks a decoded JSON body against the Rust type and puts it in canonical form. `unknown`/`duplicate`
    /// fields are collected as Kubernetes words them (`unknown field "spec.foo"`); a wrong type is an error
    /// (`Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal ...`).
    pub decode: fn(Value) -> Result<Decoded, DecodeError>,
    /// Kubernetes' defaulting, on read-from-client before admission.
    pub default: fn(&mut Value),
    /// Strategy.PrepareForCreate: drops status, sets generation 1 ...
    pub prepare_create: fn(&mut Value),
    /// Strategy.PrepareForUpdate of the main resource: keeps old status, bumps generation on spec change ...
    pub prepare_update: fn(new: &mut Value, old: &Value),
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    pub validate_update: fn(new: &Value, old: &Value) -> Vec<FieldError>,
    /// Fields a fieldSelector may name, with their value in this object (metadata.name/namespace are always there).
    pub selectable_fields: fn(&Value) -> Vec<(&'static str, String)>,
    pub columns: &'static [Column],
    /// One cell a column; `now` makes ages a pure function.
    pub cells: fn(&Value, now: jiff::Timestamp) -> Vec<Value>,
    /// metadata.deletionGracePeriodSeconds to use when a delete names none; None = no graceful deletion for the kind.
    pub default_grace_seconds: fn(&Value) -> Option<i64>,
    pub default_propagation: Propagation,
    /// Rust type's OpenAPI name, e.g. `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
}

pub enum Propagation { Background, Orphan }

pub struct Decoded { pub value: Value, pub warnings: Vec<String> }

#[derive(Debug)]
pub struct DecodeError { pub message: String }

/// Mirrors field.Error: `path: Type: value: detail` worded as Kubernetes does.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueForbidden, FieldValueDuplicate, FieldValueTooLong...
    pub reason: &'static str,
    pub field: String,
    /// Already with its prefix: `Invalid value: "A": a lowercase RFC 1123 ...`
    pub message: String,
}

pub struct Column { pub name: &'static str, pub kind: &'static str, pub format: &'static str, pub priority: i32, pub description: &'static str }

pub struct Subresource { pub name: &'static str, pub kind: SubresourceKind, pub verbs: &'static [&'static str], pub group: &'static str, pub version: &'static str, pub object_kind: &'static str }

pub enum SubresourceKind {
    /// get/update/patch that only lets status (and metadata) change.
    Status,
    /// autoscaling/v1 Scale; paths as JSON pointers.
    Scale { spec: &'static str, status: &'static str, selector: &'static str },
    /// pods/binding: server sets spec.nodeName + PodScheduled condition in one transaction.
    Binding,
    /// pods/log: proxied to the kubelet.
    Log,
    /// serviceaccounts/token
    Token,
    /// namespaces/finalize
    Finalize,
    /// pods/eviction
    Eviction,
}

//! One row a kind: everything the server needs to serve a resource without knowing its name.

use schemars::SchemaGenerator;
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
    /// Strategy.PrepareForUpdate of the status subresource: only status (and some metadata) comes from `new`.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    pub validate_update: fn(new: &Value, old: &Value) -> Vec<FieldError>,
    pub validate_status: fn(new: &Value, old: &Value) -> Vec<FieldError>,
    /// What a client is warned of that writes such an object; it is written all the same.
    pub warn: Option<Warn>,
    /// What every client of the kind is warned of, whatever it asks.
    pub deprecated: Option<&'static str>,
    /// Fields a fieldSelector may name, with their value in this object (metadata.name/namespace are always there).
    pub selectable_fields: fn(&Value) -> Vec<(&'static str, String)>,
    pub columns: &'static [Column],
    /// One cell a column; `now` makes ages a pure function.
    pub cells: fn(&Value, now: jiff::Timestamp) -> Vec<Value>,
    /// metadata.deletionGracePeriodSeconds of a delete that asks for so many, or names none; None = no graceful deletion
    /// for the kind.
    pub grace_seconds: fn(&Value, asked: Option<i64>) -> Option<i64>,
    pub default_propagation: Propagation,
    /// PUT of a name that does not exist creates it.
    pub create_on_update: bool,
    /// PUT without metadata.resourceVersion overwrites; where false it is `must be specified for an update`.
    pub unconditional_update: bool,
    /// Lifetime of a stored object (events); etcd lease.
    pub ttl_seconds: Option<i64>,
    /// This version's form -> the form kept in etcd, and back (identity but for events.k8s.io).
    pub to_storage: fn(Value) -> Value,
    pub from_storage: fn(Value) -> Value,
    /// Rust type's OpenAPI name, e.g. `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
    /// Registers the type's schema.
    pub types: fn(&mut SchemaGenerator),
}

/// Warnings, by what is done; each sees the valid object as it is written.
#[derive(Clone, Copy)]
pub struct Warn {
    pub create: fn(&Value) -> Vec<String>,
    pub update: fn(&Value) -> Vec<String>,
    /// Of the status subresource.
    pub status: fn(&Value) -> Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Orphan,
}

#[derive(Debug)]
pub struct Decoded {
    pub value: Value,
    /// Strict-decoding findings: `unknown field "spec.foo"`, `duplicate field "spec.replicas"`.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    pub message: String,
}

/// Mirrors field.Error: `path: Type: value: detail` worded as Kubernetes does.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// FieldValueRequired, FieldValueInvalid, FieldValueNotSupported, FieldValueForbidden, FieldValueDuplicate, FieldValueTooLong...
    pub reason: &'static str,
    pub field: String,
    /// Already with its prefix: `Invalid value: "A": a lowercase RFC 1123 ...`
    pub message: String,
}

pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    pub format: &'static str,
    pub priority: i32,
    pub description: &'static str,
}

pub struct Subresource {
    pub name: &'static str,
    pub kind: SubresourceKind,
    pub verbs: &'static [&'static str],
    pub group: &'static str,
    pub version: &'static str,
    pub object_kind: &'static str,
}

pub enum SubresourceKind {
    /// get/update/patch that only lets status (and metadata) change.
    Status,
    /// get/update/patch of the object that only lets one part of it change.
    Part {
        /// Strategy.PrepareForUpdate: all but the part is as it was.
        prepare: fn(new: &mut Value, old: &Value),
        validate: fn(new: &Value, old: &Value) -> Vec<FieldError>,
    },
    /// autoscaling/v1 Scale; paths as JSON pointers.
    Scale {
        spec: &'static str,
        status: &'static str,
        selector: &'static str,
    },
    /// pods/binding: server sets spec.nodeName + PodScheduled condition in one transaction.
    Binding,
    /// pods/log: proxied to the kubelet.
    Log,
    /// serviceaccounts/token
    Token,
    /// pods/proxy, services/proxy, nodes/proxy: what follows in the path is another server's.
    Proxy,
    /// pods/exec, pods/attach, pods/portforward: a connection that changes its protocol, to the kubelet.
    Stream,
    /// namespaces/finalize
    Finalize,
    /// pods/eviction
    Eviction,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Reviews are answered and never read back.
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"get")
    }

    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

impl Subresource {
    pub const fn status(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
    ) -> Subresource {
        Subresource {
            name: "status",
            kind: SubresourceKind::Status,
            verbs: &["get", "patch", "update"],
            group,
            version,
            object_kind: kind,
        }
    }

    /// Every method goes through; the options are only a name.
    pub const fn proxy(options: &'static str) -> Subresource {
        Subresource {
            name: "proxy",
            kind: SubresourceKind::Proxy,
            verbs: &["create", "delete", "get", "patch", "update"],
            group: "",
            version: "v1",
            object_kind: options,
        }
    }

    /// GET as WebSockets have it, POST as SPDY had it.
    pub const fn stream(name: &'static str, options: &'static str) -> Subresource {
        Subresource {
            name,
            kind: SubresourceKind::Stream,
            verbs: &["create", "get"],
            group: "",
            version: "v1",
            object_kind: options,
        }
    }

    /// Where apps/v1 keeps its replica counts.
    pub const fn scale() -> Subresource {
        Subresource {
            name: "scale",
            kind: SubresourceKind::Scale {
                spec: "/spec/replicas",
                status: "/status/replicas",
                selector: "/spec/selector",
            },
            verbs: &["get", "patch", "update"],
            group: "autoscaling",
            version: "v1",
            object_kind: "Scale",
        }
    }
}

//! The operations of the REST API, independent of the dialect that publishes them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::definitions::{DELETE_OPTIONS, PATCH, STATUS};
use crate::registry;
use crate::resource::{Resource, Subresource, SubresourceKind};

pub(super) struct Operation {
    /// `get`, `put`, `post`, `delete`, `patch`
    pub method: &'static str,
    /// x-kubernetes-action
    pub action: &'static str,
    pub id: String,
    pub description: String,
    pub gvk: Value,
    pub query: Vec<&'static Parameter>,
    pub body: Option<String>,
    /// Media types of the body.
    pub consumes: &'static [&'static str],
    /// Definition of a good answer; None = a plain string.
    pub answer: Option<String>,
}

pub(super) struct Parameter {
    pub name: &'static str,
    pub kind: &'static str,
    pub description: &'static str,
}

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "string",
        description,
    }
}

const fn number(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "integer",
        description,
    }
}

const fn flag(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        kind: "boolean",
        description,
    }
}

static DRY_RUN: Parameter = text(
    "dryRun",
    "When present, indicates that modifications should not be persisted. An invalid or unrecognized dryRun directive will result in an error response and no further processing of the request. Valid values are: - All: all dry run stages will be processed",
);
static FIELD_MANAGER: Parameter = text(
    "fieldManager",
    "fieldManager is a name associated with the actor or entity that is making these changes. The value must be less than or 128 characters long, and only contain printable characters, as defined by https://golang.org/pkg/unicode/#IsPrint.",
);
static FIELD_VALIDATION: Parameter = text(
    "fieldValidation",
    "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields. Valid values are: - Ignore: This will ignore any unknown fields that are silently dropped from the object, and will ignore all but the last duplicate field that the decoder encounters. - Warn: This will send a warning via the standard warning response header for each unknown field that is dropped from the object, and for each duplicate field that is encountered. The request will still succeed if there are no other errors, and will only persist the last of any duplicate fields. This is the default. - Strict: This will fail the request with a BadRequest error if any unknown fields would be dropped from the object, or if any duplicate fields are present. The error returned from the server will contain all unknown and duplicate fields encountered.",
);
static FORCE: Parameter = flag(
    "force",
    "Force is going to \"force\" Apply requests. It means user will re-acquire conflicting fields owned by other people. Force flag must be unset for non-apply patch requests.",
);
static PRETTY: Parameter = text("pretty", "If 'true', then the output is pretty printed.");

static LIST: [Parameter; 10] = [
    flag(
        "allowWatchBookmarks",
        "allowWatchBookmarks requests watch events with type \"BOOKMARK\".",
    ),
    text(
        "continue",
        "The continue option should be set when retrieving more results from the server.",
    ),
    text(
        "fieldSelector",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    text(
        "labelSelector",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    number(
        "limit",
        "limit is a maximum number of responses to return for a list call.",
    ),
    text(
        "resourceVersion",
        "resourceVersion sets a constraint on what resource versions a request may be served from.",
    ),
    text(
        "resourceVersionMatch",
        "resourceVersionMatch determines how resourceVersion is applied to list calls.",
    ),
    flag(
        "sendInitialEvents",
        "`sendInitialEvents=true` may be set together with `watch=true`.",
    ),
    number(
        "timeoutSeconds",
        "Timeout for the list/watch call. This limits the duration of the call, regardless of any activity or inactivity.",
    ),
    flag(
        "watch",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications. Specify resourceVersion.",
    ),
];

static DELETE: [Parameter; 3] = [
    number(
        "gracePeriodSeconds",
        "The duration in seconds before the object should be deleted. Value must be non-negative integer. The value zero indicates delete immediately.",
    ),
    flag(
        "orphanDependents",
        "Deprecated: please use the PropagationPolicy, this field will be deprecated in 1.7.",
    ),
    text(
        "propagationPolicy",
        "Whether and how garbage collection will be performed. Acceptable values are: 'Orphan', 'Background', 'Foreground'.",
    ),
];

static STREAM: [Parameter; 5] = [
    text(
        "container",
        "The container of the pod. Defaults to only container if there is only one container in the pod.",
    ),
    flag(
        "stderr",
        "If true, the standard error stream is redirected for this call.",
    ),
    flag(
        "stdin",
        "If true, the standard input stream is redirected for this call. Defaults to false.",
    ),
    flag(
        "stdout",
        "If true, the standard output stream is redirected for this call.",
    ),
    flag(
        "tty",
        "If true, a TTY is allocated for the call. Defaults to false.",
    ),
];
static COMMAND: Parameter = text(
    "command",
    "The remote command to execute, an argument each. Not executed within a shell.",
);
static PORTS: Parameter = number(
    "ports",
    "List of ports to forward. Required when using WebSockets without a tunnel.",
);

static LOG: [Parameter; 9] = [
    text(
        "container",
        "The container for which to stream logs. Defaults to only container if there is one container in the pod.",
    ),
    flag(
        "follow",
        "Follow the log stream of the pod. Defaults to false.",
    ),
    flag(
        "insecureSkipTLSVerifyBackend",
        "insecureSkipTLSVerifyBackend indicates that the apiserver should not confirm the validity of the serving certificate of the backend it is connecting to.",
    ),
    number(
        "limitBytes",
        "If set, the number of bytes to read from the server before terminating the log output.",
    ),
    flag(
        "previous",
        "Return previous terminated container logs. Defaults to false.",
    ),
    number(
        "sinceSeconds",
        "A relative time in seconds before the current time from which to show logs.",
    ),
    text(
        "stream",
        "Specify which container log stream to return to the client.",
    ),
    number(
        "tailLines",
        "If set, the number of lines from the end of the logs to show.",
    ),
    flag(
        "timestamps",
        "If true, add an RFC3339 or RFC3339Nano timestamp at the beginning of every line of log output. Defaults to false.",
    ),
];

const JSON: &[&str] = &["application/json"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// `/api/v1`, `/apis/apps/v1`
pub(super) fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

pub(super) fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = registry().iter().map(|r| (r.group, r.version)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The paths of one group and version, with their operations.
pub(super) fn paths(group: &str, version: &str) -> BTreeMap<String, Vec<Operation>> {
    let mut out: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
    for row in registry()
        .iter()
        .filter(|r| r.group == group && r.version == version)
    {
        let base = prefix(group, version);
        let scope = if row.namespaced {
            "/namespaces/{namespace}"
        } else {
            ""
        };
        let collection = format!("{base}{scope}/{}", row.plural);
        let item = format!("{collection}/{{name}}");
        if row.namespaced && row.verbs.contains(&"list") {
            out.insert(
                format!("{base}/{}", row.plural),
                vec![list(row, "ForAllNamespaces")],
            );
        }
        for verb in row.verbs {
            let (path, operation) = match *verb {
                "list" => (&collection, list(row, "")),
                "create" => (&collection, write(row, "post", "post", "create a", JSON)),
                "deletecollection" => (&collection, delete(row, "deletecollection", "Collection")),
                "get" => (&item, get(row, row.schema, None)),
                "update" => (
                    &item,
                    write(row, "put", "put", "replace the specified", JSON),
                ),
                "patch" => (
                    &item,
                    write(
                        row,
                        "patch",
                        "patch",
                        "partially update the specified",
                        PATCHES,
                    ),
                ),
                "delete" => (&item, delete(row, "delete", "")),
                _ => continue,
            };
            out.entry(path.clone()).or_default().push(operation);
        }
        for sub in row.subresources {
            let path = format!("{item}/{}", sub.name);
            for verb in sub.verbs {
                if let Some(operation) = subresource(row, sub, verb) {
                    out.entry(path.clone()).or_default().push(operation);
                }
            }
        }
    }
    out
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

/// `CoreV1Namespaced` + kind
fn id(row: &Resource, verb: &str, suffix: &str) -> String {
    let group = if row.group.is_empty() {
        "core"
    } else {
        row.group.split('.').next().unwrap_or(row.group)
    };
    let scope = if row.namespaced && suffix != "ForAllNamespaces" {
        "Namespaced"
    } else {
        ""
    };
    let (verb, collection) = match suffix {
        "Collection" => (verb, "Collection"),
        _ => (verb, ""),
    };
    let suffix = if suffix == "Collection" { "" } else { suffix };
    format!(
        "{verb}{}{}{collection}{scope}{}{suffix}",
        capital(group),
        capital(row.version),
        row.kind
    )
}

fn list(row: &Resource, suffix: &str) -> Operation {
    Operation {
        method: "get",
        action: "list",
        id: id(row, "list", suffix),
        description: format!("list or watch objects of kind {}", row.kind),
        gvk: gvk(row.group, row.version, row.kind),
        query: LIST.iter().chain([&PRETTY]).collect(),
        body: None,
        consumes: &["*/*"],
        answer: Some(format!("{}List", row.schema)),
    }
}

fn get(row: &Resource, answer: &str, sub: Option<&Subresource>) -> Operation {
    let suffix = sub.map_or(String::new(), |s| capital(s.name));
    Operation {
        method: "get",
        action: "get",
        id: id(row, "read", &suffix),
        description: match sub {
            Some(sub) => format!("read {} of the specified {}", sub.name, row.kind),
            None => format!("read the specified {}", row.kind),
        },
        gvk: match sub {
            Some(sub) => gvk(sub.group, sub.version, sub.object_kind),
            None => gvk(row.group, row.version, row.kind),
        },
        query: vec![&PRETTY],
        body: None,
        consumes: &["*/*"],
        answer: Some(answer.to_string()),
    }
}

fn write(
    row: &Resource,
    method: &'static str,
    action: &'static str,
    words: &str,
    consumes: &'static [&'static str],
) -> Operation {
    let verb = match action {
        "post" => "create",
        "put" => "replace",
        other => other,
    };
    let patch = action == "patch";
    let mut query = vec![&DRY_RUN, &FIELD_MANAGER, &FIELD_VALIDATION];
    if patch {
        query.push(&FORCE);
    }
    query.push(&PRETTY);
    Operation {
        method,
        action,
        id: id(row, verb, ""),
        description: format!("{words} {}", row.kind),
        gvk: gvk(row.group, row.version, row.kind),
        query,
        body: Some(if patch {
            PATCH.to_string()
        } else {
            row.schema.to_string()
        }),
        consumes,
        answer: Some(row.schema.to_string()),
    }
}

fn delete(row: &Resource, action: &'static str, suffix: &str) -> Operation {
    let mut query: Vec<&Parameter> = vec![&DRY_RUN];
    query.extend(DELETE.iter());
    if action == "deletecollection" {
        query.extend(
            LIST.iter()
                .filter(|p| !matches!(p.name, "allowWatchBookmarks" | "watch")),
        );
    }
    query.push(&PRETTY);
    Operation {
        method: "delete",
        action,
        id: id(row, "delete", suffix),
        description: match action {
            "delete" => format!("delete a {}", row.kind),
            _ => format!("delete collection of {}", row.kind),
        },
        gvk: gvk(row.group, row.version, row.kind),
        query,
        body: Some(DELETE_OPTIONS.to_string()),
        consumes: &["*/*"],
        answer: Some(STATUS.to_string()),
    }
}

/// What another server answers: a string, as far as the schema goes.
fn connect(row: &Resource, sub: &Subresource, method: &'static str) -> Operation {
    Operation {
        method,
        action: "connect",
        id: id(
            row,
            &format!("connect{}", capital(method)),
            &capital(sub.name),
        ),
        description: format!(
            "connect {} requests to {} of {}",
            method.to_uppercase(),
            sub.name,
            row.kind
        ),
        gvk: gvk(sub.group, sub.version, sub.object_kind),
        query: Vec::new(),
        body: None,
        consumes: &["*/*"],
        answer: None,
    }
}

fn subresource(row: &Resource, sub: &Subresource, verb: &str) -> Option<Operation> {
    if let SubresourceKind::Proxy | SubresourceKind::Stream = sub.kind {
        let method = match verb {
            "create" => "post",
            "update" => "put",
            "get" => "get",
            "patch" => "patch",
            "delete" => "delete",
            _ => return None,
        };
        let mut operation = connect(row, sub, method);
        if let SubresourceKind::Stream = sub.kind {
            match sub.name {
                "portforward" => operation.query.push(&PORTS),
                _ => operation.query.extend(STREAM.iter()),
            }
            if sub.name == "exec" {
                operation.query.push(&COMMAND);
            }
        }
        return Some(operation);
    }
    let schema = schema_of(row, sub);
    let named = |mut operation: Operation| {
        let verb = match operation.action {
            "post" => "create",
            "put" => "replace",
            other => other,
        };
        operation.id = id(row, verb, &capital(sub.name));
        operation.description = format!("{verb} {} of the specified {}", sub.name, row.kind);
        operation.gvk = gvk(sub.group, sub.version, sub.object_kind);
        if operation.action != "patch" {
            operation.body = Some(schema.clone());
        }
        operation.answer = Some(schema.clone());
        operation
    };
    match verb {
        "get" if sub.name == "log" => {
            let mut operation = get(row, row.schema, Some(sub));
            operation.query.extend(LOG.iter());
            operation.answer = None;
            Some(operation)
        }
        "get" => Some(get(row, &schema, Some(sub))),
        "create" => Some(named(write(row, "post", "post", "", JSON))),
        "update" => Some(named(write(row, "put", "put", "", JSON))),
        "patch" => Some(named(write(row, "patch", "patch", "", PATCHES))),
        _ => None,
    }
}

fn schema_of(row: &Resource, sub: &Subresource) -> String {
    match (sub.group, sub.object_kind) {
        (group, kind) if group == row.group && kind == row.kind => row.schema.to_string(),
        ("", kind) => format!("io.k8s.api.core.{}.{kind}", sub.version),
        (group, kind) => {
            format!(
                "io.k8s.api.{}.{}.{kind}",
                group.split('.').next().unwrap_or(group),
                sub.version
            )
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| {
        c.to_uppercase().collect::<String>() + chars.as_str()
    })
}

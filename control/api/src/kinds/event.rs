//! Events: core/v1 is what is stored, events.k8s.io/v1 the same objects under other field names.

use jiff::Timestamp;
use k8s_openapi::api::{core, events};
use serde_json::{Map, Value};

use crate::decode::typed;
use crate::field::Path;
use crate::print::{NAME, column, since, wide};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// An hour, as kube-apiserver's --event-ttl.
const TTL_SECONDS: i64 = 3600;

pub const CORE: Resource = Resource {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage_prefix: "events",
    decode: typed::<core::v1::Event>,
    validate_create: validate,
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        errors.extend(
            validate(new)
                .into_iter()
                .filter(|e| !e.field.starts_with("metadata")),
        );
        errors
    },
    selectable_fields,
    columns: COLUMNS,
    cells,
    create_on_update: true,
    ttl_seconds: Some(TTL_SECONDS),
    schema: "io.k8s.api.core.v1.Event",
    types: register::<core::v1::Event>,
    ..BASE
};

pub const EVENTS: Resource = Resource {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage_prefix: "events",
    decode: typed::<events::v1::Event>,
    validate_create: |event| validate_series(&to_core(event.clone())),
    selectable_fields: |event| {
        selectable_fields(&to_core(event.clone()))
            .into_iter()
            .map(|(name, value)| (new_field(name), value))
            .collect()
    },
    columns: COLUMNS,
    cells: |event, now| cells(&to_core(event.clone()), now),
    create_on_update: true,
    ttl_seconds: Some(TTL_SECONDS),
    to_storage: to_core,
    from_storage: from_core,
    schema: "io.k8s.api.events.v1.Event",
    types: register::<events::v1::Event>,
    ..BASE
};

/// core/v1's name of a field, and events.k8s.io's.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn to_core(event: Value) -> Value {
    renamed(event, "v1", |key| {
        RENAMED
            .iter()
            .find(|(_, new)| *new == key)
            .map(|(old, _)| *old)
    })
}

fn from_core(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", |key| {
        RENAMED
            .iter()
            .find(|(old, _)| *old == key)
            .map(|(_, new)| *new)
    })
}

fn renamed(event: Value, api_version: &str, name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else {
        return event;
    };
    let mut out: Map<String, Value> = fields
        .into_iter()
        .map(|(key, value)| match name(&key) {
            Some(new) => (new.to_string(), value),
            None => (key, value),
        })
        .collect();
    out.insert("apiVersion".into(), api_version.into());
    Value::Object(out)
}

fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate(event, true, names::subdomain);
    let path = Path::new("involvedObject").child("namespace");
    let (own, about) = (
        event.str_at("/metadata/namespace"),
        event.str_at("/involvedObject/namespace"),
    );
    // Events about cluster-scoped objects live in default.
    let elsewhere = if about.is_empty() {
        own != "default" && !own.is_empty()
    } else {
        about != own
    };
    if elsewhere {
        errors.push(path.invalid(about, "does not match event.namespace"));
    }
    errors
}

/// What events.k8s.io/v1 asks for on top.
fn validate_series(event: &Value) -> Vec<FieldError> {
    let mut errors = validate(event);
    for (key, shown, max) in [
        ("reportingComponent", "reportingController", 253),
        ("reportingInstance", "reportingInstance", 128),
    ] {
        let value = event.str_at(&format!("/{key}"));
        let path = Path::new(shown);
        if value.is_empty() {
            errors.push(path.required(""));
        } else if value.len() > max {
            errors.push(path.invalid(value, &format!("can have at most {max} characters")));
        }
    }
    for (key, max) in [("action", 128), ("reason", 128)] {
        let value = event.str_at(&format!("/{key}"));
        if value.is_empty() {
            errors.push(Path::new(key).required(""));
        } else if value.len() > max {
            errors
                .push(Path::new(key).invalid(value, &format!("can have at most {max} characters")));
        }
    }
    if event.str_at("/message").len() > 1024 {
        errors.push(Path::new("note").invalid("", "can have at most 1024 characters"));
    }
    if !event.has("/eventTime") {
        errors.push(Path::new("eventTime").required(""));
    }
    match event.str_at("/type") {
        "Normal" | "Warning" => {}
        other => errors.push(Path::new("type").invalid(other, "has invalid value: ")),
    }
    errors
}

fn selectable_fields(event: &Value) -> Vec<(&'static str, String)> {
    let source = match event.str_at("/source/component") {
        "" => event.str_at("/reportingComponent"),
        component => component,
    };
    let field = |name, pointer| (name, event.str_at(pointer).to_string());
    vec![
        field("involvedObject.kind", "/involvedObject/kind"),
        field("involvedObject.namespace", "/involvedObject/namespace"),
        field("involvedObject.name", "/involvedObject/name"),
        field("involvedObject.uid", "/involvedObject/uid"),
        field("involvedObject.apiVersion", "/involvedObject/apiVersion"),
        field(
            "involvedObject.resourceVersion",
            "/involvedObject/resourceVersion",
        ),
        field("involvedObject.fieldPath", "/involvedObject/fieldPath"),
        field("reason", "/reason"),
        field("reportingComponent", "/reportingComponent"),
        ("source", source.to_string()),
        field("type", "/type"),
    ]
}

/// A selectable field's name in events.k8s.io.
fn new_field(name: &'static str) -> &'static str {
    match name {
        "involvedObject.kind" => "regarding.kind",
        "involvedObject.namespace" => "regarding.namespace",
        "involvedObject.name" => "regarding.name",
        "involvedObject.uid" => "regarding.uid",
        "involvedObject.apiVersion" => "regarding.apiVersion",
        "involvedObject.resourceVersion" => "regarding.resourceVersion",
        "involvedObject.fieldPath" => "regarding.fieldPath",
        "reportingComponent" => "reportingController",
        other => other,
    }
}

const COLUMNS: &[Column] = &[
    column("Last Seen", "Time when this event was last observed"),
    column(
        "Type",
        "Type of this event (Normal, Warning), new types could be added in the future",
    ),
    column(
        "Reason",
        "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.",
    ),
    column("Object", "The object that this event is about."),
    wide(
        "Subobject",
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement.",
    ),
    wide("Source", "The component reporting this event."),
    column(
        "Message",
        "A human-readable description of the status of this operation.",
    ),
    wide("First Seen", "Time when this event was first observed"),
    wide("Count", "The number of times this event has occurred."),
    Column {
        priority: 1,
        ..NAME
    },
];

fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = match event.str_at("/firstTimestamp") {
        "" => event.str_at("/eventTime"),
        time => time,
    };
    let last = match event.str_at("/lastTimestamp") {
        "" => since(first, now),
        time => since(time, now),
    };
    let (last, count) = if event.has("/series") {
        let observed = event.str_at("/series/lastObservedTime");
        let last = if observed.is_empty() {
            last
        } else {
            since(observed, now)
        };
        (last, event.i64_at("/series/count"))
    } else {
        (last, event.i64_at("/count").max(1))
    };
    let target = match event.str_at("/involvedObject/name") {
        "" => event.str_at("/involvedObject/kind").to_lowercase(),
        name => format!(
            "{}/{name}",
            event.str_at("/involvedObject/kind").to_lowercase()
        ),
    };
    let component = match event.str_at("/source/component") {
        "" => event.str_at("/reportingComponent"),
        component => component,
    };
    let source = match event.str_at("/source/host") {
        "" => match event.str_at("/reportingInstance") {
            "" => component.to_string(),
            instance => format!("{component}, {instance}"),
        },
        host => format!("{component}, {host}"),
    };
    vec![
        last.into(),
        event.str_at("/type").into(),
        event.str_at("/reason").into(),
        target.into(),
        event.str_at("/involvedObject/fieldPath").into(),
        source.into(),
        event.str_at("/message").trim().into(),
        since(first, now).into(),
        count.into(),
        event.str_at("/metadata/name").into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "web.1", "namespace": "n"},
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "n", "fieldPath": "spec.containers{a}"},
            "reason": "Started", "message": "Started container a\n", "type": "Normal",
            "source": {"component": "kubelet", "host": "node-1"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 3,
        })
    }

    #[test]
    fn the_two_versions_are_one_object() {
        let new = from_core(event());
        assert_eq!(new["apiVersion"], "events.k8s.io/v1");
        assert_eq!(
            (&new["note"], &new["regarding"]["name"]),
            (&json!("Started container a\n"), &json!("web"))
        );
        assert_eq!(new["deprecatedCount"], 3);
        assert_eq!(to_core(new.clone()), event());
        let fields = (EVENTS.selectable_fields)(&new);
        assert!(fields.contains(&("regarding.name", "web".to_string())));
    }

    #[test]
    fn events_read_as_in_kubectl() {
        let now = Timestamp::from_second(90).unwrap();
        let expected = [
            json!("30s"),
            json!("Normal"),
            json!("Started"),
            json!("pod/web"),
            json!("spec.containers{a}"),
            json!("kubelet, node-1"),
            json!("Started container a"),
            json!("90s"),
            json!(3),
            json!("web.1"),
        ];
        assert_eq!(cells(&event(), now), expected);
        assert_eq!((EVENTS.cells)(&from_core(event()), now), expected);
    }

    #[test]
    fn an_event_lives_where_its_object_does() {
        assert!(validate(&event()).is_empty());
        let mut other = event();
        other["involvedObject"]["namespace"] = json!("m");
        assert_eq!(
            validate(&other)[0].to_string(),
            "involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"
        );
    }
}

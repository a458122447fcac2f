//! Addresses of Services, an object each, named by the address: whoever has the object holds the address (KEP-1880).

use std::net::IpAddr;

use k8s_openapi::api::networking::v1::IPAddress as Typed;
use serde_json::Value;

use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{ip, meta, names};

pub const ROW: Resource = Resource {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    storage_prefix: "ipaddresses",
    decode: typed::<Typed>,
    validate_create: |address| {
        let mut errors = meta::validate(address, false, canonical);
        validate_parent(address, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        let parent = |address: &Value| address.pointer("/spec/parentRef").cloned();
        if parent(new) != parent(old) {
            let shown = parent(new).unwrap_or_default();
            errors.push(parent_path().invalid(shown, "field is immutable"));
        }
        errors
    },
    columns: &[
        NAME,
        column(
            "ParentRef",
            "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
        ),
        AGE,
    ],
    cells: |address, now| vec![name(address), parent(address).into(), age(address, now)],
    schema: "io.k8s.api.networking.v1.IPAddress",
    types: register::<Typed>,
    ..BASE
};

fn parent_path() -> Path {
    Path::new("spec").child("parentRef")
}

/// An address has one name, or it could be held twice.
fn canonical(name: &str) -> Vec<String> {
    if let Some(wrong) = ip::address(name, [].into_iter()) {
        return vec![wrong.to_owned()];
    }
    let canonical = name.parse::<IpAddr>().map(|ip| ip.to_string());
    match canonical {
        Ok(canonical) if canonical != name => {
            vec![format!("must be in canonical form ({canonical:?})")]
        }
        _ => Vec::new(),
    }
}

fn validate_parent(address: &Value, errors: &mut Vec<FieldError>) {
    let path = parent_path();
    if !address.has("/spec/parentRef") {
        errors.push(path.required(""));
        return;
    }
    let field = |name: &str| address.str_at(&format!("/spec/parentRef/{name}"));
    let mut wrong = |name: &str, words: Vec<String>| {
        let at = path.child(name);
        errors.extend(words.iter().map(|words| at.invalid(field(name), words)));
    };
    // The core group's name is empty.
    if !field("group").is_empty() {
        wrong("group", names::subdomain(field("group")));
    }
    for name in ["resource", "name", "namespace"] {
        wrong(name, names::path_segment(field(name)));
    }
    for name in ["resource", "name"] {
        if field(name).is_empty() {
            errors.push(path.child(name).required(""));
        }
    }
}

/// `services/default/web`
fn parent(address: &Value) -> String {
    if !address.has("/spec/parentRef") {
        return "<none>".to_owned();
    }
    let field = |name: &str| address.str_at(&format!("/spec/parentRef/{name}"));
    let mut resource = field("resource").to_lowercase();
    if !field("group").is_empty() {
        resource = format!("{resource}.{}", field("group"));
    }
    match field("namespace") {
        "" => format!("{resource}/{}", field("name")),
        namespace => format!("{resource}/{namespace}/{}", field("name")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn address(name: &str, parent: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"parentRef": parent}})
    }

    #[test]
    fn an_address_has_one_name_and_a_parent() {
        let web = json!({"resource": "services", "namespace": "default", "name": "web"});
        for (name, parent, wrong) in [
            ("10.96.0.1", web.clone(), vec![]),
            ("fd00::1", web.clone(), vec![]),
            ("010.96.0.1", web.clone(), vec!["metadata.name"]),
            ("fd00:0::1", web.clone(), vec!["metadata.name"]),
            ("web", web.clone(), vec!["metadata.name"]),
            ("10.96.0.1", Value::Null, vec!["spec.parentRef"]),
            (
                "10.96.0.1",
                json!({"group": "-", "resource": "a/b"}),
                vec![
                    "spec.parentRef.group",
                    "spec.parentRef.resource",
                    "spec.parentRef.name",
                ],
            ),
        ] {
            let errors = (ROW.validate_create)(&address(name, parent));
            let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, wrong, "{name}: {errors:?}");
        }
    }

    #[test]
    fn its_parent_stays() {
        let old = address("10.96.0.1", json!({"resource": "services", "name": "a"}));
        let new = address("10.96.0.1", json!({"resource": "services", "name": "b"}));
        assert!((ROW.validate_update)(&old, &old).is_empty());
        assert_eq!((ROW.validate_update)(&new, &old)[0].field, "spec.parentRef");
    }

    #[test]
    fn parents_read_as_in_kubectl() {
        for (parent, shown) in [
            (
                json!({"resource": "services", "namespace": "default", "name": "web"}),
                "services/default/web",
            ),
            (
                json!({"group": "example.com", "resource": "gates", "name": "a"}),
                "gates.example.com/a",
            ),
            (Value::Null, "<none>"),
        ] {
            let cells = (ROW.cells)(&address("10.96.0.1", parent), jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(cells[1], shown);
        }
    }
}

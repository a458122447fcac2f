//! The types' schemas in the dialects of OpenAPI v2 and v3.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::schema::{enums, facts, is_atomic_struct, reference_name, schemas};

pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, name: &str) -> String {
        match self {
            Dialect::V2 => format!("#/definitions/{name}"),
            Dialect::V3 => format!("#/components/schemas/{name}"),
        }
    }

    /// A schema that is nothing but another one.
    pub(super) fn refer(self, name: &str) -> Value {
        json!({"$ref": self.reference(name)})
    }
}

/// The definitions reached from `roots`; all when there are none.
pub(super) fn definitions(
    dialect: Dialect,
    roots: Option<&BTreeSet<String>>,
) -> Map<String, Value> {
    let kinds = kinds();
    let mut out = Map::new();
    let mut rest: Vec<String> = match roots {
        Some(roots) => roots.iter().cloned().collect(),
        None => schemas()
            .raw()
            .keys()
            .cloned()
            .chain([PATCH.to_string()])
            .collect(),
    };
    while let Some(name) = rest.pop() {
        if out.contains_key(&name) {
            continue;
        }
        let mut schema = match schemas().raw().get(&name) {
            _ if name == PATCH => json!({
                "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
                "type": "object",
            }),
            Some(raw) => render(dialect, &name, raw, &mut rest),
            None => continue,
        };
        if let (Some(gvks), Some(schema)) = (kinds.get(name.as_str()), schema.as_object_mut()) {
            schema.insert("x-kubernetes-group-version-kind".into(), gvks.clone());
        }
        out.insert(name, schema);
    }
    out
}

/// Which definitions are kinds, and as which group, version and kind.
fn kinds() -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for row in crate::registry() {
        for suffix in ["", "List"] {
            let gvk = json!([{"group": row.group, "version": row.version, "kind": format!("{}{suffix}", row.kind)}]);
            out.insert(format!("{}{suffix}", row.schema), gvk);
        }
    }
    for (schema, group, version, kind) in [
        (
            "io.k8s.api.autoscaling.v1.Scale",
            "autoscaling",
            "v1",
            "Scale",
        ),
        ("io.k8s.api.policy.v1.Eviction", "policy", "v1", "Eviction"),
        ("io.k8s.api.core.v1.Binding", "", "v1", "Binding"),
        (
            "io.k8s.api.authentication.v1.TokenRequest",
            "authentication.k8s.io",
            "v1",
            "TokenRequest",
        ),
        (STATUS, "", "v1", "Status"),
        (DELETE_OPTIONS, "", "v1", "DeleteOptions"),
    ] {
        out.insert(
            schema.to_string(),
            json!([{"group": group, "version": version, "kind": kind}]),
        );
    }
    out
}

/// Leaf types whose schema Kubernetes publishes in a form of its own.
fn leaf(dialect: Dialect, name: &str) -> Option<Value> {
    let (v2, v3) = match name.strip_prefix("io.k8s.apimachinery.pkg.")? {
        "util.intstr.IntOrString" => (
            json!({"type": "string", "format": "int-or-string"}),
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        ),
        "api.resource.Quantity" => (
            json!({"type": "string"}),
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ),
        _ => return None,
    };
    Some(if dialect == Dialect::V2 { v2 } else { v3 })
}

fn render(dialect: Dialect, name: &str, raw: &Value, reached: &mut Vec<String>) -> Value {
    if let Some(mut leaf) = leaf(dialect, name) {
        if let Some(description) = raw.get("description") {
            leaf["description"] = description.clone();
        }
        return leaf;
    }
    let mut out = schema(dialect, raw, reached);
    if let Some(properties) = out.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, property) in properties {
            if let (Some(facts), Some(property)) = (facts(name, key), property.as_object_mut()) {
                facts.publish(property);
            }
            // v2 clients of old refuse what a list of values does not name; only v3 publishes them, as upstream does.
            if dialect == Dialect::V3
                && let (Some(values), Some(property)) =
                    (enums::values(name, key), property.as_object_mut())
            {
                property.insert("enum".into(), values.into());
            }
        }
    }
    // k8s-openapi asks kinds for their metadata; the API does not.
    let is_kind = out.pointer("/properties/kind").is_some()
        && out.pointer("/properties/apiVersion").is_some();
    if is_kind && let Some(required) = out.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|key| key != "metadata");
        if required.is_empty() {
            out.as_object_mut().map(|o| o.remove("required"));
        }
    }
    if is_atomic_struct(name) {
        out["x-kubernetes-map-type"] = "atomic".into();
    }
    out
}

fn schema(dialect: Dialect, raw: &Value, reached: &mut Vec<String>) -> Value {
    let mut out = Map::new();
    for (key, value) in raw.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                let name = reference_name(reference);
                reached.push(name.to_string());
                // v3 allows no siblings of a reference.
                if dialect == Dialect::V3 {
                    out.insert("allOf".into(), json!([dialect.refer(name)]));
                } else {
                    out.insert("$ref".into(), dialect.reference(name).into());
                }
            }
            ("properties", Value::Object(properties)) => {
                let rendered: Map<String, Value> = properties
                    .iter()
                    .map(|(key, property)| (key.clone(), schema(dialect, property, reached)))
                    .collect();
                out.insert(key.clone(), rendered.into());
            }
            ("items" | "additionalProperties", Value::Object(_)) => {
                out.insert(key.clone(), schema(dialect, value, reached));
            }
            // JSON schema's ways to say what Kubernetes leaves unsaid.
            ("$schema" | "title" | "minimum" | "x-kubernetes-int-or-string", _) => {}
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

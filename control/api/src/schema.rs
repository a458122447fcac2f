//! The types' schemas, compiled from what k8s-openapi publishes: one model that decoding, strategic merge and
//! OpenAPI read, so that no code is written per type.

pub(crate) mod enums;
mod facts;
mod go;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::resource::Resource;

pub(crate) use facts::is_atomic_struct;
pub use facts::{Facts, facts};
pub(crate) use go::{go_type, short_name};
pub use wire::Presence;
pub(crate) use wire::{Node, Numbers};

/// A definition: an object with named fields.
#[derive(Debug)]
pub struct Definition {
    /// `io.k8s.api.core.v1.Pod`
    pub name: String,
    pub description: String,
    pub fields: BTreeMap<String, Field>,
    /// Fields by protobuf number; empty where the API has none.
    pub(crate) numbers: Numbers,
}

#[derive(Debug)]
pub struct Field {
    pub ty: Type,
    pub description: String,
    pub presence: Presence,
    /// Merge and list facts of the field.
    pub facts: Option<&'static Facts>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A definition by name.
    Object(String),
    Map(Box<Type>),
    Array(Box<Type>),
    String,
    Bytes,
    Boolean,
    Int32,
    Int64,
    Number,
    IntOrString,
    Quantity,
    Time,
    MicroTime,
    /// RawExtension, FieldsV1: anything.
    Any,
}

/// Every definition the registry's rows reach, compiled and as published.
pub struct Schemas {
    definitions: BTreeMap<String, Definition>,
    raw: Map<String, Value>,
}

impl Schemas {
    pub fn get(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(name)
    }

    /// JSON schema by definition name; `$ref`s are `#/$defs/<name>`.
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }
}

/// Built once, at first use.
pub fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(build)
}

/// For `Resource::types`.
pub fn register<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn build() -> Schemas {
    use k8s_openapi::api::{authentication, autoscaling, core, policy};
    use k8s_openapi::apimachinery::pkg::apis::meta;

    let mut generator: SchemaGenerator = SchemaSettings::default()
        .with(|s| {
            s.meta_schema = None;
            s.inline_subschemas = false;
        })
        .into_generator();
    for row in crate::registry() {
        (row.types)(&mut generator);
    }
    generator.subschema_for::<core::v1::Binding>();
    generator.subschema_for::<policy::v1::Eviction>();
    generator.subschema_for::<autoscaling::v1::Scale>();
    generator.subschema_for::<authentication::v1::TokenRequest>();
    generator.subschema_for::<meta::v1::DeleteOptions>();
    generator.subschema_for::<meta::v1::Status>();
    generator.subschema_for::<meta::v1::APIResourceList>();
    generator.subschema_for::<meta::v1::APIGroup>();
    generator.subschema_for::<meta::v1::APIGroupList>();
    generator.subschema_for::<meta::v1::ListMeta>();
    let mut raw = generator.take_definitions(true);
    for row in crate::registry().iter().filter(|row| row.is_stored()) {
        raw.insert(format!("{}List", row.schema), list_schema(row));
    }

    let mut wire = wire::table();
    let definitions = raw
        .iter()
        .filter_map(|(name, schema)| {
            Some((name.clone(), compile(name, schema.as_object()?, &mut wire)?))
        })
        .collect();
    Schemas { definitions, raw }
}

/// k8s-openapi has one generic list, which publishes no schema.
fn list_schema(row: &Resource) -> Value {
    let reference = |name: &str| format!("#/$defs/{name}");
    json!({
        "description": format!("{}List is a list of {} objects.", row.kind, row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {
                "description": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
                "type": "string",
            },
            "items": {
                "description": format!("items is the list of {} objects.", row.kind),
                "type": "array",
                "items": {"$ref": reference(row.schema)},
            },
            "kind": {
                "description": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
                "type": "string",
            },
            "metadata": {
                "$ref": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
                "description": "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
            },
        },
    })
}

fn compile(
    name: &str,
    schema: &Map<String, Value>,
    wire: &mut HashMap<&'static str, wire::Entry>,
) -> Option<Definition> {
    let properties = schema.get("properties")?.as_object()?;
    let entry = wire.remove(name).unwrap_or_default();
    let fields = properties
        .iter()
        .map(|(key, value)| {
            let field = Field {
                ty: type_of(value),
                description: text(value, "description"),
                presence: entry
                    .presence
                    .get(key.as_str())
                    .copied()
                    .unwrap_or(Presence::Always),
                facts: facts(name, key),
            };
            (key.clone(), field)
        })
        .collect();
    Some(Definition {
        name: name.to_string(),
        description: schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_string(),
        fields,
        numbers: entry.numbers,
    })
}

fn type_of(schema: &Value) -> Type {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return named(reference_name(reference));
    }
    match (
        schema.get("type").and_then(Value::as_str),
        schema.get("format").and_then(Value::as_str),
    ) {
        (Some("string"), Some("byte")) => Type::Bytes,
        (Some("string"), _) => Type::String,
        (Some("boolean"), _) => Type::Boolean,
        (Some("integer"), Some("int64")) => Type::Int64,
        (Some("integer"), _) => Type::Int32,
        (Some("number"), _) => Type::Number,
        (Some("array"), _) => Type::Array(Box::new(schema.get("items").map_or(Type::Any, type_of))),
        (Some("object"), _) => match schema.get("additionalProperties") {
            Some(items) => Type::Map(Box::new(type_of(items))),
            None => Type::Any,
        },
        _ => Type::Any,
    }
}

/// `#/$defs/io.k8s.api.core.v1.Pod` -> `io.k8s.api.core.v1.Pod`
pub(crate) fn reference_name(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

fn named(name: &str) -> Type {
    match name.strip_prefix("io.k8s.apimachinery.pkg.") {
        Some("util.intstr.IntOrString") => Type::IntOrString,
        Some("api.resource.Quantity") => Type::Quantity,
        Some("apis.meta.v1.Time") => Type::Time,
        Some("apis.meta.v1.MicroTime") => Type::MicroTime,
        Some("runtime.RawExtension" | "apis.meta.v1.FieldsV1") => Type::Any,
        _ => Type::Object(name.to_string()),
    }
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_closed_and_facts_name_real_fields() {
        let schemas = schemas();
        for definition in schemas.definitions.values() {
            for (key, field) in &definition.fields {
                let mut ty = &field.ty;
                while let Type::Array(inner) | Type::Map(inner) = ty {
                    ty = inner;
                }
                if let Type::Object(name) = ty {
                    assert!(
                        schemas.get(name).is_some(),
                        "{}.{key}: no {name}",
                        definition.name
                    );
                }
            }
        }
        let listed = facts::all()
            .iter()
            .map(|(name, field, _)| (*name, *field))
            .chain(enums::all());
        for (name, field) in listed {
            if let Some(definition) = schemas.get(name) {
                assert!(
                    definition.fields.contains_key(field),
                    "{name} has no {field}"
                );
            }
        }
    }

    #[test]
    fn types_are_told_apart() {
        let field = |definition: &str, field: &str| {
            schemas().get(definition).unwrap().fields[field].ty.clone()
        };
        assert_eq!(
            field("io.k8s.api.core.v1.ServicePort", "targetPort"),
            Type::IntOrString
        );
        assert_eq!(
            field("io.k8s.api.coordination.v1.LeaseSpec", "renewTime"),
            Type::MicroTime
        );
        assert_eq!(
            field("io.k8s.api.core.v1.Secret", "data"),
            Type::Map(Box::new(Type::Bytes))
        );
        assert_eq!(
            field("io.k8s.api.core.v1.ResourceRequirements", "limits"),
            Type::Map(Box::new(Type::Quantity))
        );
    }
}

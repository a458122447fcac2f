//! The v2 document as protobuf: older kubectl asks for gnostic's encoding and no other.
//! Messages and numbers: https://github.com/google/gnostic/blob/main/openapiv2/OpenAPIv2.proto

mod messages;

use messages::*;
use prost::Message;
use serde_json::{Map, Value};

use crate::value::ValueExt;

/// The document's bytes. What the messages have no place for, and the document does not use, is left out.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    Document {
        swagger: document.str_at("/swagger").into(),
        info: Some(Info {
            title: document.str_at("/info/title").into(),
            version: document.str_at("/info/version").into(),
        }),
        paths: Some(Paths {
            path: entries(document.get("paths"))
                .map(|(name, item)| NamedPathItem {
                    name: name.clone(),
                    value: Some(path_item(item)),
                })
                .collect(),
        }),
        definitions: Some(Definitions {
            additional_properties: named_schemas(document.get("definitions")),
        }),
    }
    .encode_to_vec()
}

fn path_item(item: &Value) -> PathItem {
    let method = |name: &str| item.get(name).map(operation);
    PathItem {
        get: method("get"),
        put: method("put"),
        post: method("post"),
        delete: method("delete"),
        patch: method("patch"),
        parameters: item.list_at("/parameters").iter().map(parameter).collect(),
    }
}

fn operation(value: &Value) -> Operation {
    Operation {
        tags: strings(value, "/tags"),
        description: value.str_at("/description").into(),
        operation_id: value.str_at("/operationId").into(),
        produces: strings(value, "/produces"),
        consumes: strings(value, "/consumes"),
        parameters: value.list_at("/parameters").iter().map(parameter).collect(),
        responses: Some(Responses {
            response_code: entries(value.get("responses"))
                .map(|(code, response)| NamedResponseValue {
                    name: code.clone(),
                    value: Some(ResponseValue {
                        response: Some(self::response(response)),
                    }),
                })
                .collect(),
        }),
        schemes: strings(value, "/schemes"),
        vendor_extension: extensions(value),
    }
}

fn response(value: &Value) -> Response {
    Response {
        description: value.str_at("/description").into(),
        schema: value.get("schema").map(|s| SchemaItem {
            schema: Some(schema(s)),
        }),
    }
}

fn parameter(value: &Value) -> ParametersItem {
    let (name, place, description) = (
        value.str_at("/name").to_string(),
        value.str_at("/in").to_string(),
        value.str_at("/description").to_string(),
    );
    let required = value.bool_at("/required");
    let kind = value.str_at("/type").to_string();
    let unique_items = value.bool_at("/uniqueItems");
    let parameter = match place.as_str() {
        "body" => Parameter {
            body_parameter: Some(BodyParameter {
                description,
                name,
                place,
                required,
                schema: value.get("schema").map(schema),
            }),
            non_body_parameter: None,
        },
        "path" => Parameter::plain(NonBodyParameter {
            path: Some(PathParameter {
                required,
                place,
                description,
                name,
                kind,
                unique_items,
            }),
            query: None,
        }),
        _ => Parameter::plain(NonBodyParameter {
            query: Some(QueryParameter {
                required,
                place,
                description,
                name,
                kind,
                unique_items,
            }),
            path: None,
        }),
    };
    ParametersItem {
        parameter: Some(parameter),
    }
}

fn schema(value: &Value) -> Schema {
    let kind = value.str_at("/type");
    Schema {
        reference: value.str_at("/$ref").into(),
        format: value.str_at("/format").into(),
        description: value.str_at("/description").into(),
        required: strings(value, "/required"),
        additional_properties: value.get("additionalProperties").map(|items| {
            Box::new(AdditionalPropertiesItem {
                schema: Some(Box::new(schema(items))),
            })
        }),
        kind: (!kind.is_empty()).then(|| TypeItem {
            value: vec![kind.to_string()],
        }),
        items: value.get("items").map(|items| ItemsItem {
            schema: vec![schema(items)],
        }),
        properties: value.get("properties").map(|properties| Properties {
            additional_properties: named_schemas(Some(properties)),
        }),
        vendor_extension: extensions(value),
    }
}

fn named_schemas(map: Option<&Value>) -> Vec<NamedSchema> {
    entries(map)
        .map(|(name, value)| NamedSchema {
            name: name.clone(),
            value: Some(schema(value)),
        })
        .collect()
}

fn entries(map: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

/// `x-…` keys; JSON is YAML too.
fn extensions(value: &Value) -> Vec<NamedAny> {
    entries(Some(value))
        .filter(|(key, _)| key.starts_with("x-"))
        .map(|(key, value)| NamedAny {
            name: key.clone(),
            value: Some(Any {
                yaml: value.to_string(),
            }),
        })
        .collect()
}

fn strings(value: &Value, pointer: &str) -> Vec<String> {
    value
        .list_at(pointer)
        .iter()
        .filter_map(|v| v.as_str().map(str::to_string))
        .collect()
}

//! Request bodies in protobuf, the way Go clients send built-in kinds since client-go 1.32: to the JSON they stand for.

mod wire;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Map, Value};

use self::wire::{Field, fields};
use super::{format_micro_time, format_time};
use crate::schema::{Definition, Node, Numbers, Type, schemas};

pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What a protobuf body starts with.
const MAGIC: &[u8] = b"k8s\0";
const BROKEN: &str = "proto: illegal wire data";

/// The JSON of a body: `k8s\0`, then runtime.Unknown with the object's type and its bytes.
pub fn protobuf_to_json(body: &[u8]) -> Result<Value, String> {
    let unknown = body.strip_prefix(MAGIC).ok_or(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
    )?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &b""[..]);
    for field in fields(unknown) {
        match field? {
            (1, Field::Bytes(type_meta)) => {
                for field in fields(type_meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = string(text)?,
                        (2, Field::Bytes(text)) => kind = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let schema = schema_of(&api_version, &kind);
    let definition = schemas()
        .get(&schema)
        .filter(|d| !d.numbers.is_empty())
        .ok_or_else(|| format!("no kind {kind:?} is registered for version {api_version:?}"))?;
    let mut out = Map::new();
    message(definition, &definition.numbers, raw, &mut out)?;
    out.insert("apiVersion".into(), api_version.into());
    out.insert("kind".into(), kind.into());
    Ok(Value::Object(out))
}

fn schema_of(api_version: &str, kind: &str) -> String {
    // Every group has it under its own version.
    if kind == "DeleteOptions" {
        return "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions".to_string();
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    format!(
        "io.k8s.api.{}.{version}.{kind}",
        group.split('.').next().unwrap_or(group)
    )
}

fn message(
    definition: &Definition,
    numbers: &Numbers,
    bytes: &[u8],
    out: &mut Map<String, Value>,
) -> Result<(), String> {
    for field in fields(bytes) {
        let (number, value) = field?;
        match numbers.get(&number) {
            Some(Node::Inline(inner)) => {
                let Field::Bytes(bytes) = value else {
                    return Err(BROKEN.into());
                };
                message(definition, inner, bytes, out)?;
            }
            Some(Node::Field(name)) => {
                if let Some(field) = definition.fields.get(name) {
                    put(out, name, &field.ty, value)?;
                }
            }
            // A field of a newer version.
            None => {}
        }
    }
    Ok(())
}

/// Adds one occurrence of a field; lists and maps grow with each.
fn put(out: &mut Map<String, Value>, name: &str, ty: &Type, field: Field) -> Result<(), String> {
    match ty {
        Type::Array(items) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else {
                return Err(BROKEN.into());
            };
            match (items.as_ref(), field) {
                (Type::Int32 | Type::Int64 | Type::Boolean, Field::Bytes(packed)) => {
                    for number in wire::packed(packed) {
                        list.extend(value(items, Field::Varint(number?))?);
                    }
                }
                (_, field) => list.extend(value(items, field)?),
            }
        }
        Type::Map(items) => {
            let Field::Bytes(entry) = field else {
                return Err(BROKEN.into());
            };
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = map else {
                return Err(BROKEN.into());
            };
            let (mut key, mut found) = (String::new(), None);
            for field in fields(entry) {
                match field? {
                    (1, Field::Bytes(text)) => key = string(text)?,
                    (2, field) => found = value(items, field)?,
                    _ => {}
                }
            }
            map.insert(key, found.unwrap_or_else(|| super::zero(items)));
        }
        _ => {
            if let Some(value) = value(ty, field)? {
                out.insert(name.to_string(), value);
            }
        }
    }
    Ok(())
}

/// None: the zero time, which JSON has as null.
fn value(ty: &Type, field: Field) -> Result<Option<Value>, String> {
    Ok(Some(match (ty, field) {
        (Type::String, Field::Bytes(text)) => string(text)?.into(),
        (Type::Boolean, Field::Varint(n)) => (n != 0).into(),
        // Negative numbers are sign-extended to 64 bits.
        (Type::Int32, Field::Varint(n)) => (n as i32).into(),
        (Type::Int64, Field::Varint(n)) => (n as i64).into(),
        (Type::Number, Field::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Type::Bytes, Field::Bytes(bytes)) => base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into(),
        (Type::Quantity, Field::Bytes(bytes)) => match first_bytes(bytes)? {
            Some(text) => string(text)?.into(),
            None => "0".into(),
        },
        (Type::IntOrString, Field::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Time, Field::Bytes(bytes)) => {
            return Ok(time(bytes)?.map(|at| format_time(at).into()));
        }
        (Type::MicroTime, Field::Bytes(bytes)) => {
            return Ok(time(bytes)?.map(|at| format_micro_time(at).into()));
        }
        (Type::Any, Field::Bytes(bytes)) => match first_bytes(bytes)? {
            Some(json) => serde_json::from_slice(json).map_err(|error| error.to_string())?,
            None => return Ok(None),
        },
        (Type::Object(name), Field::Bytes(bytes)) => {
            let definition = schemas().get(name).ok_or(BROKEN)?;
            let mut out = Map::new();
            message(definition, &definition.numbers, bytes, &mut out)?;
            Value::Object(out)
        }
        // A list as a map's value is wrapped in a message of its own (UserInfo.extra).
        (Type::Array(_), Field::Bytes(bytes)) => {
            let mut out = Map::new();
            for field in fields(bytes) {
                put(&mut out, "items", ty, field?.1)?;
            }
            out.remove("items")
                .unwrap_or_else(|| Value::Array(Vec::new()))
        }
        _ => return Err(BROKEN.into()),
    }))
}

fn string(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "proto: invalid UTF-8 string".to_string())
}

/// The bytes of field 1: Quantity's text, RawExtension's JSON.
fn first_bytes(message: &[u8]) -> Result<Option<&[u8]>, String> {
    for field in fields(message) {
        if let (1, Field::Bytes(bytes)) = field? {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_string, mut number, mut text) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Field::Varint(kind)) => is_string = kind == 1,
            (2, Field::Varint(n)) => number = n as i32,
            (3, Field::Bytes(bytes)) => text = string(bytes)?,
            _ => {}
        }
    }
    Ok(if is_string {
        text.into()
    } else {
        number.into()
    })
}

fn time(bytes: &[u8]) -> Result<Option<Timestamp>, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in fields(bytes) {
        match field? {
            (1, Field::Varint(n)) => seconds = Some(n as i64),
            (2, Field::Varint(n)) => nanos = n as i32,
            _ => {}
        }
    }
    match seconds {
        None if nanos == 0 => Ok(None),
        seconds => Timestamp::new(seconds.unwrap_or(0), nanos)
            .map(Some)
            .map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests;

//! Strict decoding driven by the schema: unknown fields by path, wrong types in the words of Go's decoder, and a
//! canonical form (no nulls, no empty optional strings, lists and maps; quantities and times normalised).

mod duplicates;
mod protobuf;
mod time;

use k8s_openapi::Resource as Typed;
use schemars::JsonSchema;
use serde_json::{Map, Value};

pub use duplicates::json;
pub use protobuf::{MEDIA_TYPE as PROTOBUF, protobuf_to_json};
pub use time::{format_micro_time, format_time};

use crate::quantity;
use crate::resource::{DecodeError, Decoded, Resource};
use crate::schema::{Definition, Presence, Type, go_type, schemas, short_name};

/// For `Resource::decode`.
pub fn typed<T: Typed + JsonSchema>(value: Value) -> Result<Decoded, DecodeError> {
    decode_as(
        &T::schema_name(),
        T::API_VERSION,
        T::VERSION,
        T::KIND,
        value,
    )
}

/// Decodes a body as the row's kind, finding duplicate fields as well.
pub fn decode_bytes(row: &Resource, body: &[u8]) -> Result<Decoded, DecodeError> {
    let (value, duplicates) = json(body).map_err(|cause| DecodeError {
        message: cannot_be_handled(row.version, row.kind, &cause),
    })?;
    let mut decoded = (row.decode)(value)?;
    decoded.warnings.splice(0..0, duplicates);
    Ok(decoded)
}

/// What a strict request gets for `Decoded::warnings`.
pub fn strict_error(version: &str, kind: &str, warnings: &[String]) -> DecodeError {
    let message = cannot_be_handled(
        version,
        kind,
        &format!("strict decoding error: {}", warnings.join(", ")),
    );
    DecodeError { message }
}

/// Decodes `value` as the named definition (`io.k8s.api.core.v1.Binding`): for bodies that are no row of the registry.
pub fn decode_schema(
    schema: &str,
    api_version: &str,
    kind: &str,
    value: Value,
) -> Result<Decoded, DecodeError> {
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    decode_as(schema, api_version, version, kind, value)
}

fn decode_as(
    schema: &str,
    api_version: &str,
    version: &str,
    kind: &str,
    value: Value,
) -> Result<Decoded, DecodeError> {
    let fail = |cause: &str| DecodeError {
        message: cannot_be_handled(version, kind, cause),
    };
    let Some(definition) = schemas().get(schema) else {
        return Err(fail(&format!("no schema {schema}")));
    };
    let Value::Object(object) = value else {
        let cause = format!(
            "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            go_kind(&value)
        );
        return Err(DecodeError {
            message: format!("couldn't get version/kind; json parse error: {cause}"),
        });
    };
    let own = |key: &str| {
        object
            .get(key)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let (own_version, own_kind) = (
        own("apiVersion").unwrap_or(api_version),
        own("kind").unwrap_or(kind),
    );
    if own_kind != kind {
        let found = own_version.rsplit('/').next().unwrap_or(own_version);
        return Err(DecodeError {
            message: format!(
                "{own_kind} in version {found:?} cannot be handled as a {kind}: converting ({found}.{own_kind}) to ({version}.{kind}): unknown conversion"
            ),
        });
    }
    if own_version != api_version {
        return Err(DecodeError {
            message: format!(
                "the API version in the data ({own_version}) does not match the expected API version ({api_version})"
            ),
        });
    }
    let mut walker = Walker {
        unknown: Vec::new(),
    };
    let mut value = walker
        .object(definition, object, &At::ROOT)
        .map_err(|cause| fail(&cause))?;
    if let Some(object) = value.as_object_mut() {
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), kind.into());
    }
    Ok(Decoded {
        value,
        warnings: walker.unknown,
    })
}

fn cannot_be_handled(version: &str, kind: &str, cause: &str) -> String {
    format!("{kind} in version {version:?} cannot be handled as a {kind}: {cause}")
}

/// Where the walker stands: steps back to the root, put together only when something is wrong there.
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    const ROOT: At<'static> = At {
        parent: None,
        step: Step::Root,
    };

    fn to(&'a self, step: Step<'a>) -> At<'a> {
        At {
            parent: Some(self),
            step,
        }
    }

    /// `spec.containers[0].foo`, as unknown fields are named.
    fn indexed(&self) -> String {
        let base = self.parent.map(At::indexed).unwrap_or_default();
        match self.step {
            Step::Root => base,
            Step::Index(i) => format!("{base}[{i}]"),
            Step::Field(name) | Step::Key(name) if base.is_empty() => name.to_string(),
            Step::Field(name) | Step::Key(name) => format!("{base}.{name}"),
        }
    }

    /// `spec.containers.foo`, as Go's errors have it.
    fn plain(&self) -> String {
        let base = self.parent.map(At::plain).unwrap_or_default();
        match self.step {
            Step::Field(name) if base.is_empty() => name.to_string(),
            Step::Field(name) => format!("{base}.{name}"),
            _ => base,
        }
    }
}

struct Walker {
    unknown: Vec<String>,
}

/// Where a value sits, for `Go struct field <struct>.<path> of type …`.
struct Place<'a> {
    definition: &'a Definition,
    field: &'a str,
}

impl Walker {
    fn object(
        &mut self,
        definition: &Definition,
        object: Map<String, Value>,
        at: &At,
    ) -> Result<Value, String> {
        let mut out = Map::new();
        for (key, value) in object {
            let path = at.to(Step::Field(&key));
            let Some(field) = definition.fields.get(&key) else {
                self.unknown
                    .push(format!("unknown field {:?}", path.indexed()));
                continue;
            };
            if value.is_null() {
                continue;
            }
            let place = Place {
                definition,
                field: &key,
            };
            let value = self.value(&field.ty, value, &path, &place)?;
            if field.presence != Presence::Omitted || !is_zero(&field.ty, &value) {
                out.insert(key, value);
            }
        }
        Ok(Value::Object(out))
    }

    fn value(&mut self, ty: &Type, value: Value, at: &At, place: &Place) -> Result<Value, String> {
        match (ty, value) {
            (Type::Any, value) => Ok(value),
            (Type::Object(name), Value::Object(object)) => match schemas().get(name) {
                Some(definition) => self.object(definition, object, at),
                None => Ok(Value::Object(object)),
            },
            (Type::Map(items), Value::Object(object)) => {
                let mut out = Map::new();
                for (key, value) in object {
                    let path = at.to(Step::Key(&key));
                    let value = if value.is_null() {
                        zero(items)
                    } else {
                        self.value(items, value, &path, place)?
                    };
                    out.insert(key, value);
                }
                Ok(Value::Object(out))
            }
            (Type::Array(items), Value::Array(list)) => {
                let mut out = Vec::with_capacity(list.len());
                for (i, value) in list.into_iter().enumerate() {
                    let path = at.to(Step::Index(i));
                    out.push(if value.is_null() {
                        zero(items)
                    } else {
                        self.value(items, value, &path, place)?
                    });
                }
                Ok(Value::Array(out))
            }
            (Type::String, value @ Value::String(_)) => Ok(value),
            (Type::Boolean, value @ Value::Bool(_)) => Ok(value),
            (Type::Number, value @ Value::Number(_)) => Ok(value),
            (Type::Int32 | Type::Int64, Value::Number(n)) => integer(ty, &n, at, place),
            (Type::Bytes, Value::String(text)) => bytes(&text),
            (Type::IntOrString, value @ Value::String(_)) => Ok(value),
            (Type::IntOrString, Value::Number(n)) => {
                match n.as_i64().and_then(|i| i32::try_from(i).ok()) {
                    Some(i) => Ok(i.into()),
                    None => Err(format!(
                        "json: cannot unmarshal number {n} into Go value of type int32"
                    )),
                }
            }
            (Type::IntOrString, value) => Err(format!(
                "json: cannot unmarshal {} into Go value of type int32",
                go_kind(&value)
            )),
            (Type::Quantity, Value::String(text)) => canonical_quantity(&text),
            (Type::Quantity, Value::Number(n)) => canonical_quantity(&n.to_string()),
            (Type::Quantity, value) => canonical_quantity(&value.to_string()),
            (Type::Time, Value::String(text)) => Ok(format_time(time::parse(&text)?).into()),
            (Type::MicroTime, Value::String(text)) => {
                Ok(format_micro_time(time::parse(&text)?).into())
            }
            (Type::Time | Type::MicroTime, value) => Err(format!(
                "json: cannot unmarshal {} into Go value of type string",
                go_kind(&value)
            )),
            (ty, value) => Err(mismatch(go_kind(&value), ty, at, place)),
        }
    }
}

fn mismatch(found: &str, ty: &Type, at: &At, place: &Place) -> String {
    let of = go_type(&place.definition.name, place.field, ty);
    let holder = short_name(&place.definition.name);
    format!(
        "json: cannot unmarshal {found} into Go struct field {holder}.{} of type {of}",
        at.plain()
    )
}

fn integer(ty: &Type, n: &serde_json::Number, at: &At, place: &Place) -> Result<Value, String> {
    let value = n
        .as_i64()
        .filter(|i| *ty == Type::Int64 || i32::try_from(*i).is_ok());
    match value {
        Some(i) => Ok(i.into()),
        // Go's decoder for Kubernetes takes 3.0 for an integer.
        None => match n.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() <= f64::from(i32::MAX) && n.is_f64() => {
                Ok((f as i64).into())
            }
            _ => Err(mismatch(&format!("number {n}"), ty, at, place)),
        },
    }
}

fn bytes(text: &str) -> Result<Value, String> {
    use base64::Engine;
    // Go skips line ends inside base64.
    let clean: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match base64::engine::general_purpose::STANDARD.decode(&clean) {
        Ok(_) => Ok(clean.into()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(n) => n.saturating_sub(n % 4),
                base64::DecodeError::InvalidPadding => clean.len().saturating_sub(clean.len() % 4),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

fn canonical_quantity(text: &str) -> Result<Value, String> {
    match quantity::Quantity::parse(text) {
        Ok(q) => Ok(q.to_string().into()),
        Err(cause) => Err(cause.to_string()),
    }
}

/// What Go's `omitempty` leaves out.
fn is_zero(ty: &Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::Array(_), Value::Array(list)) => list.is_empty(),
        (Type::Map(_), Value::Object(map)) => map.is_empty(),
        (Type::String | Type::Bytes, Value::String(text)) => text.is_empty(),
        (Type::Boolean, Value::Bool(on)) => !on,
        (Type::Int32 | Type::Int64, Value::Number(n)) => n.as_i64() == Some(0),
        _ => false,
    }
}

fn zero(ty: &Type) -> Value {
    match ty {
        Type::Object(_) | Type::Map(_) => Value::Object(Map::new()),
        Type::Array(_) => Value::Array(Vec::new()),
        Type::String | Type::Bytes => "".into(),
        Type::Boolean => false.into(),
        Type::Int32 | Type::Int64 | Type::Number | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Time | Type::MicroTime | Type::Any => Value::Null,
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests;

//! Strategic merge patch: a merge patch whose lists know their keys.

use serde_json::{Map, Value};

use crate::schema::{Definition, Facts, Field, Type, schemas};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("no schema {0} to merge by")]
    Schema(String),
    #[error("a patch must be an object")]
    NotAnObject,
    #[error("unknown patch type found: {0}")]
    Directive(String),
    #[error("map: {item} does not contain declared merge key: {key}")]
    MergeKey { item: String, key: String },
    #[error("expecting a list for {0}")]
    NotAList(String),
    #[error("{RETAIN_KEYS} directive conflicts with the patch: {0:?} is set, yet not retained")]
    Retain(String),
}

/// Applies `patch` to `original`; `schema` is the OpenAPI name of their type (`Resource::schema`).
pub fn strategic_merge(original: &Value, patch: &Value, schema: &str) -> Result<Value, MergeError> {
    let definition = schemas()
        .get(schema)
        .ok_or_else(|| MergeError::Schema(schema.to_string()))?;
    let (Value::Object(original), Value::Object(patch)) = (original, patch) else {
        return Err(MergeError::NotAnObject);
    };
    merge_object(original.clone(), patch, Some(definition)).map(Value::Object)
}

fn merge_object(
    mut original: Map<String, Value>,
    patch: &Map<String, Value>,
    definition: Option<&Definition>,
) -> Result<Map<String, Value>, MergeError> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(s)) if s == "merge" => {}
        Some(Value::String(s)) if s == "replace" => original.clear(),
        Some(Value::String(s)) if s == "delete" => return Ok(Map::new()),
        Some(other) => return Err(MergeError::Directive(other.to_string())),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        let retained = retained
            .as_array()
            .ok_or_else(|| MergeError::NotAList(RETAIN_KEYS.into()))?;
        let kept = |key: &String| retained.iter().any(|r| r.as_str() == Some(key));
        let stray = patch
            .iter()
            .find(|(k, v)| !k.starts_with('$') && !v.is_null() && !kept(k));
        if let Some((key, _)) = stray {
            return Err(MergeError::Retain(key.clone()));
        }
        original.retain(|key, _| kept(key));
    }
    for (key, removed) in patch
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(DELETE_PRIMITIVES)?, v)))
    {
        let removed = removed
            .as_array()
            .ok_or_else(|| MergeError::NotAList(key.into()))?;
        if let Some(Value::Array(list)) = original.get_mut(key) {
            list.retain(|item| !removed.contains(item));
        }
    }
    for (key, value) in patch {
        if key.starts_with('$') {
            continue;
        }
        if value.is_null() {
            original.remove(key);
            continue;
        }
        let field = definition.and_then(|d| d.fields.get(key));
        let order = patch.get(&format!("{ELEMENT_ORDER}{key}"));
        let merged = merge_value(original.remove(key), value, field, order)?;
        original.insert(key.clone(), merged);
    }
    // An order alone, with nothing to merge.
    for (key, order) in patch
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix(ELEMENT_ORDER)?, v)))
    {
        if patch.contains_key(key) {
            continue;
        }
        let order = order
            .as_array()
            .ok_or_else(|| MergeError::NotAList(key.into()))?;
        if let Some(Value::Array(list)) = original.get_mut(key) {
            let merge_key = definition
                .and_then(|d| d.fields.get(key)?.facts)
                .map_or("", |f| f.merge_key);
            let before = list.clone();
            *list = ordered(std::mem::take(list), &before, order, merge_key);
        }
    }
    Ok(original)
}

fn merge_value(
    original: Option<Value>,
    patch: &Value,
    field: Option<&Field>,
    order: Option<&Value>,
) -> Result<Value, MergeError> {
    match patch {
        Value::Object(patch) => {
            let original = match original {
                Some(Value::Object(original)) => original,
                _ => Map::new(),
            };
            merge_object(original, patch, field.and_then(|f| definition_of(&f.ty)))
                .map(Value::Object)
        }
        Value::Array(patch) => {
            let original = match original {
                Some(Value::Array(original)) => original,
                _ => Vec::new(),
            };
            let items = field.and_then(|f| definition_of(&f.ty));
            match field.and_then(|f| f.facts).filter(|f| f.merges()) {
                Some(facts) => {
                    let merged = merge_list(original.clone(), patch, facts, items)?;
                    Ok(Value::Array(match order {
                        Some(order) => {
                            let order = order
                                .as_array()
                                .ok_or_else(|| MergeError::NotAList(ELEMENT_ORDER.into()))?;
                            ordered(merged, &original, order, facts.merge_key)
                        }
                        None => merged,
                    }))
                }
                None => replaced(patch, items).map(Value::Array),
            }
        }
        scalar => Ok(scalar.clone()),
    }
}

/// The definition of an object, or of a list's or map's items.
fn definition_of(ty: &Type) -> Option<&'static Definition> {
    match ty {
        Type::Object(name) => schemas().get(name),
        Type::Array(items) => definition_of(items),
        _ => None,
    }
}

/// A list that replaces another still may hold nulls and directives inside its items.
fn replaced(patch: &[Value], items: Option<&Definition>) -> Result<Vec<Value>, MergeError> {
    patch
        .iter()
        .filter(|item| item.get(PATCH).is_none() || item.as_object().is_some_and(|o| o.len() > 1))
        .map(|item| match item {
            Value::Object(object) => merge_object(Map::new(), object, items).map(Value::Object),
            other => Ok(other.clone()),
        })
        .collect()
}

fn merge_list(
    mut original: Vec<Value>,
    patch: &[Value],
    facts: &Facts,
    items: Option<&Definition>,
) -> Result<Vec<Value>, MergeError> {
    let key = facts.merge_key;
    let server = original.clone();
    if key.is_empty() {
        for item in patch {
            if !original.contains(item) {
                original.push(item.clone());
            }
        }
        return Ok(ordered(original, &server, patch, key));
    }
    let key_of = |item: &Value| {
        item.get(key).cloned().ok_or_else(|| MergeError::MergeKey {
            item: item.to_string(),
            key: key.to_string(),
        })
    };
    let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(str::to_string);

    if patch
        .iter()
        .any(|item| directive(item).as_deref() == Some("replace"))
    {
        // `$patch: replace` as an item of its own: the list becomes the other items.
        let rest: Vec<Value> = patch
            .iter()
            .filter(|item| directive(item).as_deref() != Some("replace"))
            .cloned()
            .collect();
        return replaced(&rest, items);
    }
    for item in patch {
        match directive(item).as_deref() {
            Some("delete") => {
                let wanted = key_of(item)?;
                original.retain(|o| o.get(key) != Some(&wanted));
            }
            Some("merge") | None => {
                let Value::Object(object) = item else {
                    return Err(MergeError::MergeKey {
                        item: item.to_string(),
                        key: key.to_string(),
                    });
                };
                let wanted = key_of(item)?;
                match original.iter_mut().find(|o| o.get(key) == Some(&wanted)) {
                    Some(found) => {
                        let before = found.as_object().cloned().unwrap_or_default();
                        *found = Value::Object(merge_object(before, object, items)?);
                    }
                    None => original.push(Value::Object(merge_object(Map::new(), object, items)?)),
                }
            }
            Some(other) => return Err(MergeError::Directive(other.to_string())),
        }
    }
    Ok(ordered(original, &server, patch, key))
}

/// By `$setElementOrder`, or the patch itself: items that `order` names take its order; the others keep their place
/// relative to `server`, the list before the merge, and come after what was not in it.
fn ordered(merged: Vec<Value>, server: &[Value], order: &[Value], key: &str) -> Vec<Value> {
    let id = |item: &Value| {
        if key.is_empty() {
            item.clone()
        } else {
            item.get(key).cloned().unwrap_or(Value::Null)
        }
    };
    let named: Vec<Value> = order.iter().map(id).collect();
    let place = |item: &Value| server.iter().position(|s| id(s) == id(item));

    let (mut ours, others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|i| named.contains(&id(i)));
    ours.sort_by_key(|item| named.iter().position(|n| *n == id(item)));
    let (mut ours, mut others) = (ours.into_iter().peekable(), others.into_iter().peekable());
    let mut out = Vec::new();
    while let (Some(our), Some(other)) = (ours.peek(), others.peek()) {
        let other_first = match (place(other), place(our)) {
            (Some(other), Some(our)) => other < our,
            _ => false,
        };
        out.extend(if other_first {
            others.next()
        } else {
            ours.next()
        });
    }
    out.extend(ours);
    out.extend(others);
    out
}

#[cfg(test)]
mod tests;

//! The forms an object is answered in: itself, a Table for people, or its metadata alone.

use http::{HeaderMap, header};
use serde_json::{Value, json};
use vetch_api::resource::Resource;

/// What the Accept header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Object,
    Table,
    Partial,
}

/// How much of the object a table row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Include {
    pub fn parse(text: Option<&str>) -> Include {
        match text {
            Some("None") => Include::None,
            Some("Object") => Include::Object,
            _ => Include::Metadata,
        }
    }
}

impl Form {
    /// The first media type we can write; JSON where nothing fits, as clients bear it.
    pub fn accepted(headers: &HeaderMap) -> Form {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        for media in accept.split(',') {
            let mut parts = media.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameters: Vec<&str> = parts.collect();
            let has = |parameter: &str| parameters.contains(&parameter);
            if kind != "application/json" {
                continue;
            }
            if has("as=Table") && has("g=meta.k8s.io") && has("v=v1") {
                return Form::Table;
            }
            if (has("as=PartialObjectMetadata") || has("as=PartialObjectMetadataList"))
                && has("g=meta.k8s.io")
                && has("v=v1")
            {
                return Form::Partial;
            }
            if !parameters
                .iter()
                .any(|parameter| parameter.starts_with("as="))
            {
                return Form::Object;
            }
        }
        Form::Object
    }
}

/// One object as metav1.PartialObjectMetadata.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// A metav1.Table of these objects. Watches leave out the columns after their first row.
pub fn table<'a>(
    resource: &Resource,
    objects: impl Iterator<Item = &'a Value>,
    include: Include,
    with_columns: bool,
    list_metadata: Value,
) -> Value {
    let now = jiff::Timestamp::now();
    let columns: Vec<Value> = match with_columns {
        false => Vec::new(),
        true => resource
            .columns
            .iter()
            .map(|column| {
                json!({
                    "name": column.name, "type": column.kind, "format": column.format,
                    "description": column.description, "priority": column.priority,
                })
            })
            .collect(),
    };
    let rows: Vec<Value> = objects
        .map(|object| {
            let mut row = json!({"cells": (resource.cells)(object, now)});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial(object),
                Include::Object => row["object"] = object.clone(),
            }
            row
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// `v1` or `apps/v1`.
pub fn api_version(resource: &Resource) -> String {
    match resource.group {
        "" => resource.version.to_owned(),
        group => format!("{group}/{}", resource.version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_form_wins() {
        for (accept, form) in [
            ("", Form::Object),
            ("*/*", Form::Object),
            ("application/json", Form::Object),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Form::Table,
            ),
            (
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Form::Object,
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Form::Object,
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                Form::Partial,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::accepted(&headers), form, "{accept}");
        }
    }
}

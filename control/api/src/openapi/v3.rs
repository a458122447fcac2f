//! One document of OpenAPI v3 for each group and version.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::KUBERNETES_VERSION;
use super::definitions::{Dialect, definitions};
use super::operations::{Operation, paths};
use super::v2::tag;

pub(super) fn document(group: &str, version: &str) -> Value {
    let mut all = Map::new();
    let mut roots = BTreeSet::new();
    for (path, operations) in paths(group, version) {
        let mut item = Map::new();
        for one in &operations {
            roots.extend(one.body.clone());
            roots.extend(one.answer.clone());
            item.insert(one.method.to_string(), operation(one, group, version));
        }
        let parameters: Vec<Value> = ["name", "namespace"]
            .into_iter()
            .filter(|p| path.contains(&format!("{{{p}}}")))
            .map(path_parameter)
            .collect();
        if !parameters.is_empty() {
            item.insert("parameters".into(), parameters.into());
        }
        all.insert(path, item.into());
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": all,
        "components": {"schemas": definitions(Dialect::V3, Some(&roots))},
    })
}

fn path_parameter(name: &str) -> Value {
    let description = match name {
        "name" => "name of the object",
        _ => "object name and auth scope, such as for teams and projects",
    };
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": description,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn operation(operation: &Operation, group: &str, version: &str) -> Value {
    let parameters: Vec<Value> = operation
        .query
        .iter()
        .map(|p| {
            json!({
                "name": p.name,
                "in": "query",
                "description": p.description,
                "schema": {"type": p.kind, "uniqueItems": true},
            })
        })
        .collect();
    let (media, schema) = match &operation.answer {
        Some(answer) => ("application/json", Dialect::V3.refer(answer)),
        None => ("text/plain", json!({"type": "string"})),
    };
    let mut out = json!({
        "operationId": operation.id,
        "description": operation.description,
        "tags": [tag(group, version)],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "content": {media: {"schema": schema}}},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    });
    if let Some(body) = &operation.body {
        let content: Map<String, Value> = operation
            .consumes
            .iter()
            .map(|media| {
                (
                    media.to_string(),
                    json!({"schema": Dialect::V3.refer(body)}),
                )
            })
            .collect();
        out["requestBody"] = json!({"content": content});
        if operation.method != "delete" {
            out["requestBody"]["required"] = true.into();
        }
    }
    out
}

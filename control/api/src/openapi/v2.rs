//! The one document of OpenAPI v2 (swagger).

use serde_json::{Map, Value, json};

use super::KUBERNETES_VERSION;
use super::definitions::{Dialect, definitions};
use super::operations::{Operation, group_versions, paths};

pub(super) fn document() -> Value {
    let mut all = Map::new();
    for (group, version) in group_versions() {
        for (path, operations) in paths(group, version) {
            let mut item: Map<String, Value> = operations
                .iter()
                .map(|o| (o.method.to_string(), operation(o, group, version)))
                .collect();
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
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": KUBERNETES_VERSION},
        "paths": all,
        "definitions": definitions(Dialect::V2, None),
    })
}

fn path_parameter(name: &str) -> Value {
    let description = match name {
        "name" => "name of the object",
        _ => "object name and auth scope, such as for teams and projects",
    };
    json!({"name": name, "in": "path", "required": true, "type": "string", "uniqueItems": true, "description": description})
}

fn operation(operation: &Operation, group: &str, version: &str) -> Value {
    let mut parameters = Vec::new();
    if let Some(body) = &operation.body {
        let required = operation.method != "delete";
        parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": Dialect::V2.refer(body)}));
    }
    parameters.extend(operation.query.iter().map(|p| {
        json!({"name": p.name, "in": "query", "type": p.kind, "uniqueItems": true, "description": p.description})
    }));
    let schema = match &operation.answer {
        Some(answer) => Dialect::V2.refer(answer),
        None => json!({"type": "string"}),
    };
    json!({
        "operationId": operation.id,
        "description": operation.description,
        "tags": [tag(group, version)],
        "schemes": ["https"],
        "consumes": operation.consumes,
        "produces": ["application/json"],
        "parameters": parameters,
        "responses": {
            "200": {"description": "OK", "schema": schema},
            "401": {"description": "Unauthorized"},
        },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    })
}

/// `core_v1`, `apps_v1`
pub(super) fn tag(group: &str, version: &str) -> String {
    let group = if group.is_empty() {
        "core"
    } else {
        group.split('.').next().unwrap_or(group)
    };
    format!("{group}_{version}")
}

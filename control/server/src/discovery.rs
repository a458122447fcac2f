//! /version, /api and /apis: what is served, in the legacy and the aggregated form.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use vetch_api::resource::Resource;

use crate::read::json_response;
use crate::state::Server;

/// The Kubernetes release whose API this is.
const MINOR: &str = "36";

pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+vetch-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }),
    })
}

/// Group, version and the rows served there.
type GroupVersion = (&'static str, &'static str, Vec<&'static Resource>);

fn group_versions(registry: &'static [Resource]) -> Vec<GroupVersion> {
    let mut found: Vec<GroupVersion> = Vec::new();
    for row in registry {
        match found
            .iter_mut()
            .find(|(group, version, _)| (*group, *version) == (row.group, row.version))
        {
            Some((.., rows)) => rows.push(row),
            None => found.push((row.group, row.version, vec![row])),
        }
    }
    found
}

pub(crate) fn answer(server: &Server, path: &str, headers: &HeaderMap) -> Option<Response> {
    let all = group_versions(server.registry);
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    let body = match segments.as_slice() {
        [] => {
            json!({"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]})
        }
        [root @ ("api" | "apis")] => {
            if let Some(media) = aggregated(headers) {
                let mut response = json_response(
                    StatusCode::OK,
                    aggregate(&all, *root == "api", media).to_string(),
                );
                if let Ok(value) = HeaderValue::from_str(&format!(
                    "application/json;g=apidiscovery.k8s.io;v={media};as=APIGroupDiscoveryList"
                )) {
                    response.headers_mut().insert(header::CONTENT_TYPE, value);
                }
                return Some(response);
            }
            match *root {
                "api" => {
                    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
                }
                _ => groups(&all),
            }
        }
        ["api", version] => resources(
            all.iter()
                .find(|(group, own, _)| group.is_empty() && own == version)?,
        ),
        ["apis", group] => {
            let list = groups(&all);
            let found = list["groups"]
                .as_array()?
                .iter()
                .find(|own| own["name"] == *group)?
                .clone();
            let mut found = found;
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            found
        }
        ["apis", group, version] => resources(
            all.iter()
                .find(|(own, v, _)| own == group && v == version)?,
        ),
        _ => return None,
    };
    Some(json_response(StatusCode::OK, body.to_string()))
}

/// The aggregated form's version, if the client can read it.
fn aggregated(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(header::ACCEPT)?.to_str().ok()?;
    let wants = |media: &str, version: &str| {
        media.contains("as=APIGroupDiscoveryList")
            && media.contains("g=apidiscovery.k8s.io")
            && media.split(';').any(|part| part.trim() == version)
    };
    ["v2", "v2beta1"].into_iter().find(|version| {
        accept
            .split(',')
            .any(|media| wants(media, &format!("v={version}")))
    })
}

fn group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

fn groups(all: &[GroupVersion]) -> Value {
    let mut list: Vec<Value> = Vec::new();
    for (group, version, _) in all.iter().filter(|(group, ..)| !group.is_empty()) {
        let entry = json!({"groupVersion": group_version(group, version), "version": version});
        match list.iter_mut().find(|own| own["name"] == *group) {
            Some(own) => {
                if let Some(versions) = own["versions"].as_array_mut() {
                    versions.push(entry);
                }
            }
            None => {
                list.push(json!({"name": group, "versions": [entry], "preferredVersion": entry}))
            }
        }
    }
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

fn resources((group, version, rows): &GroupVersion) -> Value {
    let mut list = Vec::new();
    for row in rows {
        let mut entry = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced,
            "kind": row.kind, "verbs": row.verbs,
        });
        if !row.short_names.is_empty() {
            entry["shortNames"] = json!(row.short_names);
        }
        if !row.categories.is_empty() {
            entry["categories"] = json!(row.categories);
        }
        list.push(entry);
        for sub in row.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", row.plural, sub.name), "singularName": "",
                "namespaced": row.namespaced, "kind": sub.object_kind, "verbs": sub.verbs,
            });
            if (sub.group, sub.version) != (row.group, row.version) {
                entry["group"] = sub.group.into();
                entry["version"] = sub.version.into();
            }
            list.push(entry);
        }
    }
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version(group, version), "resources": list,
    })
}

fn aggregate(all: &[GroupVersion], core: bool, media: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for (group, version, rows) in all.iter().filter(|(group, ..)| group.is_empty() == core) {
        let resources: Vec<Value> = rows
            .iter()
            .map(|row| {
                let subresources: Vec<Value> = row
                    .subresources
                    .iter()
                    .map(|sub| {
                        json!({
                            "subresource": sub.name,
                            "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.object_kind},
                            "verbs": sub.verbs,
                        })
                    })
                    .collect();
                let mut entry = json!({
                    "resource": row.plural,
                    "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
                    "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
                    "singularResource": row.singular,
                    "verbs": row.verbs,
                });
                if !row.short_names.is_empty() {
                    entry["shortNames"] = json!(row.short_names);
                }
                if !row.categories.is_empty() {
                    entry["categories"] = json!(row.categories);
                }
                if !subresources.is_empty() {
                    entry["subresources"] = json!(subresources);
                }
                entry
            })
            .collect();
        let entry = json!({"version": version, "resources": resources, "freshness": "Current"});
        match items
            .iter_mut()
            .find(|own| own["metadata"]["name"] == *group)
        {
            Some(own) => {
                if let Some(versions) = own["versions"].as_array_mut() {
                    versions.push(entry);
                }
            }
            None => {
                let mut metadata = json!({"creationTimestamp": null});
                if !group.is_empty() {
                    metadata["name"] = (*group).into();
                }
                items.push(json!({"metadata": metadata, "versions": [entry]}));
            }
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{media}"),
        "metadata": {}, "items": items,
    })
}

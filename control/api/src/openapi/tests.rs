use super::*;

fn parsed(document: &Document) -> Value {
    serde_json::from_slice(&document.bytes).unwrap()
}

/// Every `$ref` of the document leads somewhere.
fn dangling(document: &Value, at: &Value, found: &mut Vec<String>) {
    match at {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str)
                && document
                    .pointer(reference.trim_start_matches('#'))
                    .is_none()
            {
                found.push(reference.to_string());
            }
            map.values().for_each(|v| dangling(document, v, found));
        }
        Value::Array(list) => list.iter().for_each(|v| dangling(document, v, found)),
        _ => {}
    }
}

#[test]
fn documents_are_closed_and_ids_unique() {
    let index = parsed(v3_index());
    let mut documents = vec![parsed(v2_json())];
    for path in index["paths"].as_object().unwrap().keys() {
        documents.push(parsed(v3(path).unwrap()));
    }
    assert!(documents.len() > 4);
    for document in documents {
        let mut found = Vec::new();
        dangling(&document, &document, &mut found);
        assert_eq!(found, Vec::<String>::new());
        let mut ids = std::collections::BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values().filter(|o| o.is_object()) {
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_string()),
                    "{}",
                    operation["operationId"]
                );
            }
        }
    }
    assert!(v3("apis/none/v1").is_none());
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let apps = parsed(v3("apis/apps/v1").unwrap());
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());

    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"][0]["kind"],
        "Deployment"
    );
    assert_eq!(
        deployment["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));

    let v2 = parsed(v2_json());
    let pod = &v2["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(pod["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert_eq!(
        v2["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
        "int-or-string"
    );
}

#[test]
fn the_protobuf_begins_as_gnostic_does() {
    let bytes = &v2_protobuf().bytes;
    // Field 1, swagger, "2.0".
    assert_eq!(bytes[..5], [0x0a, 3, b'2', b'.', b'0']);
    assert!(bytes.len() > 100_000);
}

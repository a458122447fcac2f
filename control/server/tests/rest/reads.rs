use serde_json::{Value, json};

use crate::cluster::{MAPS, cluster, map};

#[tokio::test]
async fn lists_are_selected_and_paged() {
    let cluster = cluster().await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut object = map(name);
        object["metadata"]["labels"] =
            json!({"odd": if "ace".contains(name) { "yes" } else { "no" }});
        cluster.post(MAPS, object).await.expect(201);
    }
    let other = "/api/v1/namespaces/other/configmaps";
    cluster.post(other, map("a")).await.expect(201);

    let all = cluster.get("/api/v1/configmaps").await.expect(200);
    assert_eq!(
        (all.body["kind"].as_str(), all.names().len()),
        (Some("ConfigMapList"), 6)
    );
    for (query, names) in [
        ("", vec!["a", "b", "c", "d", "e"]),
        ("?labelSelector=odd%3Dyes", vec!["a", "c", "e"]),
        ("?labelSelector=odd+notin+(yes)", vec!["b", "d"]),
        ("?fieldSelector=metadata.name%3Dc", vec!["c"]),
        (
            "?fieldSelector=metadata.name!%3Dc&labelSelector=odd%3Dyes",
            vec!["a", "e"],
        ),
        ("?resourceVersion=0", vec!["a", "b", "c", "d", "e"]),
    ] {
        assert_eq!(
            cluster
                .get(&format!("{MAPS}{query}"))
                .await
                .expect(200)
                .names(),
            names,
            "{query}"
        );
    }

    // Later pages show the moment of the first.
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!(first.names(), ["a", "b"]);
    assert_eq!(first.body["metadata"]["remainingItemCount"], 3);
    cluster
        .delete(&format!("{MAPS}/c"), Value::Null)
        .await
        .expect(200);
    cluster.post(MAPS, map("ba")).await.expect(201);
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let second = cluster
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .expect(200);
    assert_eq!(
        (second.names(), second.version()),
        (vec!["c".to_owned(), "d".to_owned()], first.version())
    );
    assert_eq!(second.body["metadata"]["remainingItemCount"], 1);
    let token = second.body["metadata"]["continue"].as_str().unwrap();
    let last = cluster
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .expect(200);
    assert_eq!(last.names(), ["e"]);
    assert_eq!(last.body["metadata"].get("continue"), None);
    // A token is of use in its own collection only.
    cluster
        .get(&format!("{other}?limit=2&continue={token}"))
        .await
        .expect(400);

    let exact = format!(
        "{MAPS}?resourceVersionMatch=Exact&resourceVersion={}",
        first.version()
    );
    assert_eq!(
        cluster.get(&exact).await.expect(200).names(),
        ["a", "b", "c", "d", "e"]
    );
    assert_eq!(cluster.get(MAPS).await.names(), ["a", "b", "ba", "d", "e"]);
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read() {
    let cluster = cluster().await;
    for n in 0..50 {
        let name = format!("m{n}");
        cluster.post(MAPS, map(&name)).await.expect(201);
        cluster.get(&format!("{MAPS}/{name}")).await.expect(200);
        assert_eq!(cluster.get(MAPS).await.names().len(), n + 1);
    }
}

#[tokio::test]
async fn discovery_names_every_row() {
    let cluster = cluster().await;
    let core = cluster.get("/api/v1").await.expect(200);
    let names: Vec<&str> = core.body["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    for name in [
        "pods",
        "pods/status",
        "pods/binding",
        "namespaces",
        "namespaces/finalize",
        "events",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    for (name, kind) in [
        ("pods/attach", "PodAttachOptions"),
        ("pods/exec", "PodExecOptions"),
        ("pods/portforward", "PodPortForwardOptions"),
    ] {
        let resources = core.body["resources"].as_array().unwrap();
        let wanted = json!({
            "name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["create", "get"],
        });
        assert!(resources.contains(&wanted), "{name}");
    }
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let groups = cluster
        .call("GET", "/apis", &[("accept", accept)], Value::Null)
        .await
        .expect(200);
    assert_eq!(groups.body["kind"], "APIGroupDiscoveryList");
    assert_eq!(
        groups.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let apps = groups.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["metadata"]["name"] == "apps")
        .unwrap();
    let deployments = apps["versions"][0]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["resource"] == "deployments")
        .unwrap();
    assert_eq!(
        (&deployments["scope"], &deployments["responseKind"]["kind"]),
        (&json!("Namespaced"), &json!("Deployment"))
    );
    assert_eq!(cluster.get("/apis").await.body["kind"], "APIGroupList");
    assert_eq!(
        cluster.get("/apis/apps").await.body["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    assert_eq!(cluster.get("/version").await.body["minor"], "36");
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(cluster.get(path).await.expect(200).body, "ok");
    }
    assert_eq!(
        cluster.get("/openapi/v3").await.expect(200).body["paths"]["api/v1"]["serverRelativeURL"]
            .as_str()
            .map(|url| url.starts_with("/openapi/v3/api/v1?hash=")),
        Some(true)
    );
}

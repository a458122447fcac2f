use futures::future::join_all;
use serde_json::{Value, json};

use crate::cluster::{DEPLOYMENTS, MAPS, cluster, deployment, map};

#[tokio::test]
async fn an_object_is_created_changed_and_read() {
    let cluster = cluster().await;
    let made = cluster.post(MAPS, map("a")).await.expect(201);
    let metadata = &made.body["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(
        metadata["creationTimestamp"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        cluster.get(&format!("{MAPS}/a")).await.expect(200).body,
        made.body
    );

    let mut changed = made.body.clone();
    changed["data"]["b"] = "2".into();
    let written = cluster
        .put(&format!("{MAPS}/a"), changed.clone())
        .await
        .expect(200);
    assert_ne!(written.version(), made.version());
    assert_eq!(written.body["data"], json!({"a": "1", "b": "2"}));
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.body, written.body);

    // What changes nothing is not written.
    let again = cluster
        .put(&format!("{MAPS}/a"), written.body.clone())
        .await
        .expect(200);
    assert_eq!(again.version(), written.version());

    // The first version is stale by now.
    let stale = cluster.put(&format!("{MAPS}/a"), changed).await.expect(409);
    assert_eq!(
        stale.message(),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    assert_eq!(
        (&stale.body["reason"], &stale.body["details"]),
        (
            &json!("Conflict"),
            &json!({"name": "a", "kind": "configmaps"})
        )
    );

    // Without a version the last writer wins.
    let mut unbound = map("a");
    unbound["data"] = json!({"c": "3"});
    let written = cluster.put(&format!("{MAPS}/a"), unbound).await.expect(200);
    assert_eq!(written.body["data"], json!({"c": "3"}));
    assert_eq!(
        written.body["metadata"]["uid"],
        made.body["metadata"]["uid"]
    );
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = cluster().await;
    let mut wanted = map("");
    wanted["metadata"] = json!({"generateName": "web-"});
    let made = join_all((0..5).map(|_| cluster.post(MAPS, wanted.clone()))).await;
    let mut names: Vec<String> = made
        .into_iter()
        .map(|answer| {
            answer.expect(201).body["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("web-") && name.len() == 9),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let cluster = cluster().await;
    let made = cluster
        .post(&format!("{MAPS}?dryRun=All"), map("a"))
        .await
        .expect(201);
    assert_eq!(made.body["metadata"].get("resourceVersion"), None);
    cluster.get(&format!("{MAPS}/a")).await.expect(404);
    let stored = cluster.post(MAPS, map("a")).await.expect(201);
    cluster
        .post(&format!("{MAPS}?dryRun=All"), map("a"))
        .await
        .expect(409);
    let patched = cluster
        .patch(
            &format!("{MAPS}/a?dryRun=All"),
            "merge-patch",
            json!({"data": {"a": "2"}}),
        )
        .await;
    assert_eq!(patched.expect(200).body["data"]["a"], "2");
    cluster
        .delete(&format!("{MAPS}/a?dryRun=All"), Value::Null)
        .await
        .expect(200);
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.body, stored.body);
}

#[tokio::test]
async fn three_kinds_of_patch() {
    let cluster = cluster().await;
    cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web");

    let container = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "B", "value": "2"}]}]}}}});
    let patched = cluster
        .patch(&path, "strategic-merge-patch", container)
        .await
        .expect(200);
    let env = &patched.body["spec"]["template"]["spec"]["containers"][0]["env"];
    // What the patch brings is first.
    assert_eq!(
        *env,
        json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}])
    );
    assert_eq!(patched.body["metadata"]["generation"], 2);

    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = cluster
        .patch(&path, "merge-patch", labels)
        .await
        .expect(200);
    assert_eq!(patched.body["metadata"]["labels"], json!({"x": "y"}));
    assert_eq!(
        patched.body["metadata"]["generation"], 2,
        "the spec is as it was"
    );

    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}, {"op": "test", "path": "/metadata/labels/x", "value": "y"}]);
    let patched = cluster
        .patch(&path, "json-patch", operations)
        .await
        .expect(200);
    assert_eq!(patched.body["spec"]["replicas"], 5);

    let refused = cluster
        .patch(
            &path,
            "json-patch",
            json!([{"op": "test", "path": "/spec/replicas", "value": 4}]),
        )
        .await;
    refused.expect(422);

    // A patch that changes nothing is not written.
    let again = cluster
        .patch(
            &path,
            "merge-patch",
            json!({"metadata": {"labels": {"x": "y"}}}),
        )
        .await
        .expect(200);
    assert_eq!(again.version(), patched.version());
    // One that names a version is bound to it.
    let bound = json!({"metadata": {"resourceVersion": "1", "labels": {"x": "z"}}});
    cluster.patch(&path, "merge-patch", bound).await.expect(409);
}

#[tokio::test]
async fn patches_that_race_all_arrive() {
    let cluster = cluster().await;
    cluster.post(MAPS, map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let patches = (0..6).map(|n| {
        cluster.patch(
            &path,
            "merge-patch",
            json!({"data": {format!("k{n}"): "v"}}),
        )
    });
    for answer in join_all(patches).await {
        answer.expect(200);
    }
    let data = cluster.get(&path).await.body["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 7, "{data}");
}

#[tokio::test]
async fn writes_survive_a_restart_of_etcd() {
    let mut cluster = cluster().await;
    let made = cluster.post(MAPS, map("a")).await.expect(201);
    cluster.etcd.kill();
    let refused = cluster.post(MAPS, map("b")).await;
    assert_eq!(
        (refused.code, refused.body["reason"].as_str()),
        (500, Some("InternalError"))
    );
    // From memory.
    cluster
        .get(&format!("{MAPS}?resourceVersion=0"))
        .await
        .expect(200);
    cluster.etcd.restart().await;
    assert_eq!(
        cluster.get(&format!("{MAPS}/a")).await.expect(200).body,
        made.body
    );
    cluster.post(MAPS, map("c")).await.expect(201);
}

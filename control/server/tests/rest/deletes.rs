use serde_json::{Value, json};

use crate::cluster::{DEPLOYMENTS, MAPS, PODS, cluster, deployment, map, pod};

#[tokio::test]
async fn a_running_pod_ends_gracefully() {
    let cluster = cluster().await;
    cluster.post(PODS, pod("waiting")).await.expect(201);
    let gone = cluster
        .delete(&format!("{PODS}/waiting"), Value::Null)
        .await
        .expect(200);
    assert_eq!(gone.body["kind"], "Pod");
    cluster.get(&format!("{PODS}/waiting")).await.expect(404);

    let mut running = pod("running");
    running["spec"]["nodeName"] = "n".into();
    let made = cluster.post(PODS, running).await.expect(201);
    let path = format!("{PODS}/running");
    let uid = made.body["metadata"]["uid"].as_str().unwrap();
    cluster
        .delete(&path, json!({"preconditions": {"uid": "other"}}))
        .await
        .expect(409);
    let marked = cluster
        .delete(&path, json!({"preconditions": {"uid": uid}}))
        .await
        .expect(200);
    assert_eq!(marked.body["metadata"]["deletionGracePeriodSeconds"], 30);
    let again = cluster.delete(&path, Value::Null).await.expect(200);
    assert_eq!(
        again.version(),
        marked.version(),
        "the same wish changes nothing"
    );
    cluster
        .delete(&path, json!({"gracePeriodSeconds": 0}))
        .await
        .expect(200);
    cluster.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_finalizer_holds_an_object() {
    let cluster = cluster().await;
    let mut held = map("a");
    held["metadata"]["finalizers"] = json!(["example.com/mine"]);
    cluster.post(MAPS, held).await.expect(201);
    let path = format!("{MAPS}/a");
    let marked = cluster.delete(&path, Value::Null).await.expect(200);
    assert!(marked.body["metadata"]["deletionTimestamp"].is_string());
    let patch = json!({"metadata": {"finalizers": ["example.com/mine", "example.com/more"]}});
    let refused = cluster.patch(&path, "merge-patch", patch).await.expect(422);
    assert!(
        refused.message().contains("no new finalizers can be added"),
        "{}",
        refused.message()
    );
    cluster.get(&path).await.expect(200);
    cluster
        .patch(
            &path,
            "merge-patch",
            json!({"metadata": {"finalizers": null}}),
        )
        .await
        .expect(200);
    cluster.get(&path).await.expect(404);

    // Dependents first: the garbage collector takes the finalizer away when they are gone.
    cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    let web = format!("{DEPLOYMENTS}/web");
    let marked = cluster
        .delete(&web, json!({"propagationPolicy": "Foreground"}))
        .await
        .expect(200);
    assert_eq!(
        marked.body["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    cluster
        .patch(
            &web,
            "json-patch",
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        )
        .await
        .expect(200);
    cluster.get(&web).await.expect(404);
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_finalized() {
    let cluster = cluster().await;
    cluster
        .post("/api/v1/namespaces", json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    let marked = cluster
        .delete("/api/v1/namespaces/n", Value::Null)
        .await
        .expect(200);
    assert_eq!(marked.body["status"]["phase"], "Terminating");
    let mut finalized = marked.body.clone();
    finalized["spec"]["finalizers"] = json!([]);
    cluster
        .put("/api/v1/namespaces/n/finalize", finalized)
        .await
        .expect(200);
    cluster.get("/api/v1/namespaces/n").await.expect(404);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let cluster = cluster().await;
    for n in 0..40 {
        let mut object = map(&format!("m{n}"));
        object["metadata"]["labels"] = json!({"half": if n % 2 == 0 { "even" } else { "odd" }});
        cluster.post(MAPS, object).await.expect(201);
    }
    let deleted = cluster
        .delete(&format!("{MAPS}?labelSelector=half%3Deven"), Value::Null)
        .await
        .expect(200);
    assert_eq!(
        (deleted.names().len(), deleted.body["kind"].as_str()),
        (20, Some("ConfigMapList"))
    );
    assert_eq!(cluster.get(MAPS).await.names().len(), 20);
}

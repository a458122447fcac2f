use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::cluster::{MAPS, cluster, lines, map};

fn summary(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    events
        .iter()
        .map(|event| {
            (
                text(&event["type"]),
                text(&event["object"]["metadata"]["name"]),
            )
        })
        .collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted
        .iter()
        .map(|(kind, name)| ((*kind).to_owned(), (*name).to_owned()))
        .collect()
}

fn labelled(name: &str, label: &str) -> Value {
    let mut object = map(name);
    object["metadata"]["labels"] = json!({"color": label});
    object
}

#[tokio::test]
async fn a_watch_begins_where_a_list_ended() {
    let cluster = cluster().await;
    cluster.post(MAPS, labelled("a", "red")).await.expect(201);
    let version = cluster.get(MAPS).await.version();
    cluster.post(MAPS, labelled("b", "blue")).await.expect(201);
    cluster
        .put(&format!("{MAPS}/a"), labelled("a", "blue"))
        .await
        .expect(200);
    cluster
        .put(&format!("{MAPS}/b"), labelled("b", "red"))
        .await
        .expect(200);
    let deleted = cluster
        .delete(&format!("{MAPS}/b"), Value::Null)
        .await
        .expect(200);
    assert_eq!(deleted.body["status"], "Success");
    cluster
        .post("/api/v1/namespaces/other/configmaps", map("z"))
        .await
        .expect(201);

    let watch = |query: &str| {
        format!("{MAPS}?watch=true&timeoutSeconds=1&resourceVersion={version}{query}")
    };
    let all = cluster.watch(&watch(""), &[]).await;
    assert_eq!(
        summary(&all),
        pairs(&[
            ("ADDED", "b"),
            ("MODIFIED", "a"),
            ("MODIFIED", "b"),
            ("DELETED", "b")
        ])
    );
    // A deletion's object has the deletion's version.
    let versions: Vec<i64> = all
        .iter()
        .map(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(
        versions.is_sorted() && versions[2] < versions[3],
        "{versions:?}"
    );

    // Who leaves a selection is deleted for its watcher, who enters it is added.
    let red = cluster
        .watch(&watch("&labelSelector=color%3Dred"), &[])
        .await;
    assert_eq!(
        summary(&red),
        pairs(&[("DELETED", "a"), ("ADDED", "b"), ("DELETED", "b")])
    );
    let one = cluster
        .watch(&watch("&fieldSelector=metadata.name%3Da"), &[])
        .await;
    assert_eq!(summary(&one), pairs(&[("MODIFIED", "a")]));

    let tables = cluster
        .watch(
            &watch(""),
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
        )
        .await;
    assert_eq!(tables[0]["object"]["kind"], "Table");
    assert!(
        !tables[0]["object"]["columnDefinitions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        tables[1]["object"]["rows"][0]["object"]["metadata"]["name"],
        "a"
    );
    let bare = cluster
        .watch(
            &watch(""),
            &[(
                "accept",
                "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            )],
        )
        .await;
    assert_eq!(
        (&bare[0]["object"]["kind"], bare[0]["object"].get("data")),
        (&json!("PartialObjectMetadata"), None)
    );
}

#[tokio::test]
async fn a_watch_list_says_where_the_state_ends() {
    let cluster = cluster().await;
    cluster.post(MAPS, map("a")).await.expect(201);
    cluster.post(MAPS, map("b")).await.expect(201);
    let query = "watch=1&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let events = cluster.watch(&format!("{MAPS}?{query}"), &[]).await;
    let marked = events
        .iter()
        .position(|event| {
            event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
        })
        .unwrap();
    assert_eq!(
        summary(&events[..marked]),
        pairs(&[("ADDED", "a"), ("ADDED", "b")])
    );
    assert_eq!((marked, &events[marked]["type"]), (2, &json!("BOOKMARK")));
    // At its end a watch tells how far it came.
    assert_eq!(events.last().unwrap()["type"], "BOOKMARK");
    cluster
        .get(&format!("{MAPS}?watch=1&sendInitialEvents=true"))
        .await
        .expect(400);

    // Without a version a watch begins with what there is.
    let events = cluster
        .watch(&format!("{MAPS}?watch=true&timeoutSeconds=1"), &[])
        .await;
    assert_eq!(summary(&events), pairs(&[("ADDED", "a"), ("ADDED", "b")]));
}

#[tokio::test]
async fn events_arrive_while_the_watch_is_open_and_across_a_restart_of_etcd() {
    let mut cluster = cluster().await;
    let version = cluster.get(MAPS).await.version();
    // As long as can be said.
    let forever = i64::MAX;
    let path = format!("{MAPS}?watch=true&timeoutSeconds={forever}&resourceVersion={version}");
    let mut stream = cluster
        .send("GET", &path, &[], String::new())
        .await
        .into_body()
        .into_data_stream();
    cluster.post(MAPS, map("a")).await.expect(201);
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(summary(&lines(&first)), pairs(&[("ADDED", "a")]));
    cluster.etcd.kill();
    cluster.etcd.restart().await;
    cluster.post(MAPS, map("b")).await.expect(201);
    let next = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(summary(&lines(&next)), pairs(&[("ADDED", "b")]));
}

#[tokio::test]
async fn what_is_too_old_is_gone() {
    let cluster = cluster().await;
    cluster.post(MAPS, map("a")).await.expect(201);
    // The cache began after etcd's first revision. Clients list anew at an event, not at a refusal.
    let events = cluster
        .watch(
            &format!("{MAPS}?watch=true&resourceVersion=0&sendInitialEvents=false"),
            &[],
        )
        .await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["type"], "ERROR");
    let status = &events[0]["object"];
    assert_eq!(
        (&status["code"], &status["reason"]),
        (&json!(410), &json!("Expired"))
    );
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("too old resource version: 0 ("),
        "{message}"
    );
}

use serde_json::{Value, json};

use crate::cluster::{PODS, cluster, pod};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn people_read_tables() {
    let cluster = cluster().await;
    cluster.post(PODS, pod("p")).await.expect(201);
    for path in [PODS.to_owned(), format!("{PODS}/p")] {
        let table = cluster
            .call("GET", &path, &[("accept", TABLE)], Value::Null)
            .await
            .expect(200)
            .body;
        assert_eq!(
            (&table["kind"], &table["apiVersion"]),
            (&json!("Table"), &json!("meta.k8s.io/v1"))
        );
        let columns: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|column| column["name"].as_str().unwrap())
            .collect();
        assert_eq!(columns[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
        let row = &table["rows"][0];
        assert_eq!(
            row["cells"].as_array().unwrap()[..3],
            [json!("p"), json!("0/1"), json!("Pending")]
        );
        assert_eq!(
            (&row["object"]["kind"], &row["object"]["metadata"]["name"]),
            (&json!("PartialObjectMetadata"), &json!("p"))
        );
    }
    for (include, kind) in [
        ("None", Value::Null),
        ("Object", json!("Pod")),
        ("Metadata", json!("PartialObjectMetadata")),
    ] {
        let path = format!("{PODS}?includeObject={include}");
        let table = cluster
            .call("GET", &path, &[("accept", TABLE)], Value::Null)
            .await
            .expect(200)
            .body;
        assert_eq!(table["rows"][0]["object"]["kind"], kind, "{include}");
    }
}

#[tokio::test]
async fn collectors_read_metadata() {
    let cluster = cluster().await;
    cluster.post(PODS, pod("p")).await.expect(201);
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = cluster
        .call("GET", PODS, &[("accept", accept)], Value::Null)
        .await
        .expect(200)
        .body;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(
        (
            list["items"][0].get("spec"),
            &list["items"][0]["metadata"]["name"]
        ),
        (None, &json!("p"))
    );
}

#[tokio::test]
async fn events_are_served_in_both_of_their_groups() {
    let cluster = cluster().await;
    let event = json!({
        "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        "reason": "Started", "message": "Started container", "type": "Normal", "count": 2,
        "source": {"component": "kubelet"},
    });
    cluster
        .post("/api/v1/namespaces/default/events", event)
        .await
        .expect(201);
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let list = cluster.get(path).await.expect(200).body;
    assert_eq!(list["items"][0]["apiVersion"], "events.k8s.io/v1");
    assert_eq!(
        (
            &list["items"][0]["regarding"]["name"],
            &list["items"][0]["note"]
        ),
        (&json!("p"), &json!("Started container"))
    );
    let found = cluster
        .get("/api/v1/events?fieldSelector=involvedObject.name%3Dp")
        .await
        .expect(200);
    assert_eq!(found.names(), ["e"]);
    let found = cluster
        .get(&format!("{path}?fieldSelector=regarding.name%3Dp"))
        .await
        .expect(200);
    assert_eq!(found.names(), ["e"]);
}

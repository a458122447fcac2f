use serde_json::{Value, json};

use crate::cluster::{PODS, cluster, pod};

#[tokio::test]
async fn what_a_patch_makes_is_an_object() {
    let cluster = cluster().await;
    cluster.post(PODS, pod("p")).await.expect(201);
    let before = cluster.get(&format!("{PODS}/p")).await.body;
    let root = |value: Value| json!([{"op": "replace", "path": "", "value": value}]);
    let whole = "json: cannot unmarshal";
    for (patch, told) in [
        (root(json!([])), whole),
        (root(json!([{"metadata": {}}])), whole),
        (root(json!("p")), whole),
        (root(json!(1)), whole),
        (root(json!(true)), whole),
        (root(Value::Null), whole),
        (root(json!({"metadata": []})), whole),
        (root(json!({"metadata": "p"})), whole),
        (
            json!([{"op": "replace", "path": "/metadata", "value": 1}]),
            whole,
        ),
        (
            json!([{"op": "copy", "from": "/metadata/name", "path": ""}]),
            whole,
        ),
        (
            json!([{"op": "remove", "path": ""}]),
            "the server rejected our request due to an error in our request: ",
        ),
    ] {
        for path in [format!("{PODS}/p"), format!("{PODS}/p/status")] {
            let refused = cluster.patch(&path, "json-patch", patch.clone()).await;
            assert_eq!(refused.code, 422, "{patch}: {}", refused.body);
            let message = refused.message();
            assert!(message.contains(told), "{patch}: {message}");
        }
    }
    assert_eq!(cluster.get(&format!("{PODS}/p")).await.body, before);
}

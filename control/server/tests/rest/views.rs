use serde_json::{Value, json};

use crate::cluster::{DEPLOYMENTS, PODS, cluster, deployment, pod};

#[tokio::test]
async fn a_scale_is_what_it_says_and_of_whom() {
    let cluster = cluster().await;
    cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let strict = format!("{path}?fieldValidation=Strict");
    let scale = |name: &str, replicas: Value| json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": name}, "spec": {"replicas": replicas}});
    let with = |field: &str, value: &str| {
        let mut scale = scale("web", json!(1));
        scale["metadata"][field] = value.into();
        scale
    };
    let patch = |replicas: Value| json!({"spec": {"replicas": replicas}});
    let no_int = "json: cannot unmarshal number 3000000000 into Go ";
    let negative = "Scale.autoscaling \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
    for (method, path, body, code, told) in [
        ("PATCH", &path, patch(json!(3_000_000_000_i64)), 422, no_int),
        (
            "PATCH",
            &path,
            patch(json!(-3_000_000_000_i64)),
            422,
            "json: cannot unmarshal number",
        ),
        (
            "PATCH",
            &path,
            patch(json!("2")),
            422,
            "json: cannot unmarshal string into Go ",
        ),
        ("PATCH", &path, patch(json!(-1)), 422, negative),
        (
            "PATCH",
            &strict,
            json!({"spec": {"replica": 2}}),
            422,
            "unknown field \"spec.replica\"",
        ),
        (
            "PATCH",
            &path,
            json!({"metadata": {"name": "other"}}),
            400,
            "the name of the object (other) does not match the name on the URL (web)",
        ),
        (
            "PATCH",
            &path,
            json!({"metadata": {"resourceVersion": "1"}}),
            409,
            "the object has been modified",
        ),
        (
            "PUT",
            &path,
            json!({}),
            400,
            "the name of the object (web based on URL) was undeterminable: name must be provided",
        ),
        (
            "PUT",
            &path,
            scale("other", json!(1)),
            400,
            "the name of the object (other) does not match the name on the URL (web)",
        ),
        (
            "PUT",
            &path,
            deployment("web"),
            400,
            "Deployment in version \"v1\" cannot be handled as a Scale: ",
        ),
        (
            "PUT",
            &path,
            scale("web", json!(3_000_000_000_i64)),
            400,
            no_int,
        ),
        ("PUT", &path, scale("web", json!(-1)), 422, negative),
        ("PUT", &path, json!([]), 400, "json parse error"),
        (
            "PUT",
            &path,
            with("namespace", "other"),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "PUT",
            &path,
            with("uid", "u"),
            409,
            "Operation cannot be fulfilled on deployments/scale.apps \"web\": Precondition failed: UID in precondition: u, UID in object meta: ",
        ),
        (
            "PUT",
            &path,
            with("resourceVersion", "1"),
            409,
            "the object has been modified",
        ),
    ] {
        let refused = match method {
            "PUT" => cluster.put(path, body.clone()).await,
            _ => cluster.patch(path, "merge-patch", body.clone()).await,
        };
        assert_eq!(refused.code, code, "{method} {body}: {}", refused.body);
        assert!(
            refused.message().contains(told),
            "{method} {body}: {}",
            refused.message()
        );
    }
    let web = cluster.get(&format!("{DEPLOYMENTS}/web")).await.body;
    assert_eq!(web["spec"]["replicas"], 3);
    // The largest, and none that are named.
    for (body, wanted) in [
        (scale("web", json!(i32::MAX)), i32::MAX),
        (json!({"metadata": {"name": "web"}}), 0),
    ] {
        let scaled = cluster.put(&path, body).await.expect(200);
        assert_eq!(scaled.body["spec"]["replicas"], wanted);
        let web = cluster.get(&format!("{DEPLOYMENTS}/web")).await.body;
        assert_eq!(web["spec"]["replicas"], wanted);
    }
}

#[tokio::test]
async fn a_binding_is_of_its_pod_and_typed() {
    let cluster = cluster().await;
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/g"}]);
    for pod in [pod("p"), gated] {
        cluster.post(PODS, pod).await.expect(201);
    }
    let before = cluster.get(&format!("{PODS}/p")).await.body;
    let binding = |metadata: Value, target: Value| {
        let mut binding = json!({"metadata": {"name": "p"}, "target": {"name": "n"}});
        for (part, more) in [("metadata", metadata), ("target", target)] {
            for (key, value) in more.as_object().unwrap() {
                binding[part][key] = value.clone();
            }
        }
        binding
    };
    let path = format!("{PODS}/p/binding");
    for (body, code, told) in [
        (
            json!({}),
            400,
            "name in URL does not match name in Binding object",
        ),
        (
            binding(json!({"name": "q"}), json!({})),
            400,
            "name in URL does not match name in Binding object",
        ),
        (
            binding(json!({"namespace": "other"}), json!({})),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            binding(json!({"annotations": {"a": 1}}), json!({})),
            400,
            "json: cannot unmarshal number into Go struct field ",
        ),
        (
            binding(json!({}), json!({"name": 1})),
            400,
            "json: cannot unmarshal number into Go struct field ",
        ),
        (
            pod("p"),
            400,
            "Pod in version \"v1\" cannot be handled as a Binding: ",
        ),
        (
            binding(json!({}), json!({"name": ""})),
            422,
            "Binding \"p\" is invalid: target.name: Required value",
        ),
        (
            binding(json!({}), json!({"name": "x y"})),
            422,
            "Binding \"p\" is invalid: target.name: Invalid value: \"x y\": ",
        ),
        (
            binding(json!({}), json!({"kind": "Foo"})),
            422,
            "Binding \"p\" is invalid: target.kind: Unsupported value: \"Foo\": supported values: \"Node\", \"<empty>\"",
        ),
        (
            binding(json!({"uid": "u"}), json!({})),
            409,
            "Operation cannot be fulfilled on pods \"p\": Precondition failed: UID in precondition: u, UID in object meta: ",
        ),
        (
            binding(json!({"resourceVersion": "1"}), json!({})),
            409,
            "Operation cannot be fulfilled on pods \"p\": Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: ",
        ),
    ] {
        let refused = cluster.post(&path, body.clone()).await;
        assert_eq!(refused.code, code, "{body}: {}", refused.body);
        assert!(
            refused.message().contains(told),
            "{body}: {}",
            refused.message()
        );
    }
    assert_eq!(cluster.get(&format!("{PODS}/p")).await.body, before);
    let refused = cluster
        .post(
            &format!("{PODS}/gated/binding"),
            binding(json!({"name": "gated"}), json!({})),
        )
        .await
        .expect(409);
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on pods/binding \"gated\": pod gated has non-empty .spec.schedulingGates"
    );
    let own = json!({
        "uid": before["metadata"]["uid"], "resourceVersion": before["metadata"]["resourceVersion"],
        "annotations": {"a": "1"},
    });
    cluster
        .post(&path, binding(own, json!({"kind": "Node"})))
        .await
        .expect(201);
    let bound = cluster.get(&format!("{PODS}/p")).await.body;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["annotations"], json!({"a": "1"}));
}

use serde_json::{Value, json};

use crate::cluster::{DEPLOYMENTS, PODS, cluster, deployment, pod};

#[tokio::test]
async fn status_and_spec_are_apart() {
    let cluster = cluster().await;
    let made = cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    let mut both = made.body.clone();
    both["spec"]["replicas"] = 9.into();
    both["status"] = json!({"replicas": 2, "observedGeneration": 1});
    let status = cluster
        .put(&format!("{DEPLOYMENTS}/web/status"), both.clone())
        .await
        .expect(200);
    assert_eq!(
        (
            &status.body["spec"]["replicas"],
            &status.body["status"]["replicas"]
        ),
        (&json!(3), &json!(2))
    );
    both["metadata"]["resourceVersion"] = status.version().into();
    both["status"]["replicas"] = 7.into();
    let spec = cluster
        .put(&format!("{DEPLOYMENTS}/web"), both)
        .await
        .expect(200);
    assert_eq!(
        (
            &spec.body["spec"]["replicas"],
            &spec.body["status"]["replicas"]
        ),
        (&json!(9), &json!(2))
    );
    assert_eq!(spec.body["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_scale_is_read_and_written() {
    let cluster = cluster().await;
    cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let mut scale = cluster.get(&path).await.expect(200).body;
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(3))
    );
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(
        cluster.put(&path, scale.clone()).await.expect(200).body["spec"]["replicas"],
        5
    );
    cluster.put(&path, scale).await.expect(409);
    cluster
        .patch(&path, "merge-patch", json!({"spec": {"replicas": 1}}))
        .await
        .expect(200);
    let deployment = cluster.get(&format!("{DEPLOYMENTS}/web")).await.body;
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["metadata"]["generation"]
        ),
        (&json!(1), &json!(3))
    );
    cluster
        .patch(&path, "merge-patch", json!({"spec": {"replicas": -1}}))
        .await
        .expect(422);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let cluster = cluster().await;
    cluster.post(PODS, pod("p")).await.expect(201);
    let binding =
        |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let path = format!("{PODS}/p/binding");
    let bound = cluster.post(&path, binding("one")).await.expect(201);
    assert_eq!(bound.body["status"], "Success");
    let stored = cluster.get(&format!("{PODS}/p")).await.body;
    assert_eq!(stored["spec"]["nodeName"], "one");
    let scheduled = stored["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["type"] == "PodScheduled")
        .unwrap();
    assert_eq!(scheduled["status"], "True");
    let refused = cluster.post(&path, binding("two")).await.expect(409);
    assert_eq!(
        refused.message(),
        "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"one\""
    );
    let eviction =
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p"}});
    cluster
        .post(&format!("{PODS}/p/eviction"), eviction)
        .await
        .expect(201);
    assert!(
        cluster.get(&format!("{PODS}/p")).await.body["metadata"]["deletionTimestamp"].is_string()
    );
    let mut nobodys = binding("one");
    nobodys["metadata"]["name"] = json!("none");
    cluster
        .post(&format!("{PODS}/none/binding"), nobodys)
        .await
        .expect(404);
    cluster
        .call("DELETE", &path, &[], Value::Null)
        .await
        .expect(405);
}

#[tokio::test]
async fn ephemeral_containers_are_added_and_stay() {
    let cluster = cluster().await;
    let made = cluster.post(PODS, pod("p")).await.expect(201);
    let path = format!("{PODS}/p/ephemeralcontainers");
    let container = |name: &str| json!({"name": name, "image": "i:1", "targetContainerName": "c"});

    // As kubectl debug does it.
    let patch = json!({"spec": {
        "ephemeralContainers": [container("one")], "$setElementOrder/ephemeralContainers": [{"name": "one"}],
        "terminationGracePeriodSeconds": 7,
    }});
    let patched = cluster
        .patch(&path, "strategic-merge-patch", patch)
        .await
        .expect(200);
    assert_eq!(patched.body["metadata"]["generation"], 2);
    let spec = &patched.body["spec"];
    assert_eq!(
        spec["ephemeralContainers"][0]["imagePullPolicy"],
        "IfNotPresent"
    );
    assert_eq!(
        spec["terminationGracePeriodSeconds"],
        made.body["spec"]["terminationGracePeriodSeconds"]
    );

    let mut whole = patched.body.clone();
    let list = whole["spec"]["ephemeralContainers"].as_array_mut().unwrap();
    list.push(container("two"));
    whole["metadata"]["labels"] = json!({"not": "here"});
    let put = cluster.put(&path, whole.clone()).await.expect(200);
    assert_eq!(put.body["metadata"]["generation"], 3);
    assert_eq!(put.body["metadata"].get("labels"), None);
    let stale = cluster.put(&path, whole.clone()).await.expect(409);
    assert!(stale.message().contains("the object has been modified"));
    let read = cluster.get(&path).await.expect(200);
    assert_eq!(
        (&read.body["kind"], &read.body["spec"]),
        (&json!("Pod"), &put.body["spec"])
    );
    let add =
        json!([{"op": "add", "path": "/spec/ephemeralContainers/-", "value": container("three")}]);
    let added = cluster.patch(&path, "json-patch", add).await.expect(200);
    let list = added.body["spec"]["ephemeralContainers"]
        .as_array()
        .unwrap();
    assert_eq!(list.len(), 3);

    for (patch, words) in [
        (
            json!([container("one")]),
            "existing ephemeral containers \"two\" may not be removed",
        ),
        (
            json!([{"name": "one", "image": "other:1"}]),
            "existing ephemeral containers \"one\" may not be changed",
        ),
        (
            json!([{"name": "one", "image": "i:1", "ports": [{"containerPort": 1}]}]),
            "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ] {
        let patch = json!({"spec": {"ephemeralContainers": patch}});
        let refused = cluster.patch(&path, "merge-patch", patch).await.expect(422);
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    // By no other way.
    let plain = json!({"spec": {"ephemeralContainers": [container("four")]}});
    let refused = cluster
        .patch(&format!("{PODS}/p"), "strategic-merge-patch", plain)
        .await
        .expect(422);
    let words = "pod updates may not change fields other than";
    assert!(refused.message().contains(words), "{}", refused.message());
    let mut born_with = pod("q");
    born_with["spec"]["ephemeralContainers"] = json!([container("one")]);
    let refused = cluster.post(PODS, born_with).await.expect(422);
    assert_eq!(
        refused.message(),
        "Pod \"q\" is invalid: spec.ephemeralContainers: Forbidden: cannot be set on create"
    );
    cluster
        .patch(
            &format!("{PODS}/none/ephemeralcontainers"),
            "merge-patch",
            json!({}),
        )
        .await
        .expect(404);
    cluster.post(&path, json!({})).await.expect(405);
}

#[tokio::test]
async fn a_pods_resources_change_by_resize_alone() {
    let cluster = cluster().await;
    let mut sized = pod("p");
    sized["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "20m", "memory": "35Mi"}});
    let made = cluster.post(PODS, sized).await.expect(201).body;
    let name = made["spec"]["containers"][0]["name"].clone();
    let (main, resize) = (format!("{PODS}/p"), format!("{PODS}/p/resize"));
    let cpu = |amount: &str| json!({"spec": {"containers": [{"name": name, "resources": {"requests": {"cpu": amount}}}]}});
    let refused = cluster
        .patch(&main, "strategic-merge-patch", cpu("25m"))
        .await
        .expect(422);
    let words = "spec: Forbidden: pod updates may not change fields other than";
    assert!(refused.message().contains(words), "{}", refused.message());

    // The whole object: of all it says only resources are heard.
    let mut whole = made.clone();
    whole["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("25m");
    whole["spec"]["containers"][0]["image"] = json!("another");
    whole["metadata"]["labels"] = json!({"a": "b"});
    let put = cluster.put(&resize, whole).await.expect(200).body;
    let mut wanted = made.clone();
    wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("25m");
    wanted["metadata"]["generation"] = json!(2);
    wanted["metadata"]["resourceVersion"] = put["metadata"]["resourceVersion"].clone();
    assert_eq!(put, wanted);
    for (generation, kind, patch) in [
        (3, "strategic-merge-patch", cpu("26m")),
        (
            4,
            "json-patch",
            json!([{"op": "replace", "path": "/spec/containers/0/resources/requests/cpu", "value": "27m"}]),
        ),
        // A merge patch replaces the list: each field it leaves out stays as it was, but for the resources.
        (
            5,
            "merge-patch",
            json!({"spec": {"containers": [{"name": name, "image": "x", "resources": {"requests": {"cpu": "28m", "memory": "36Mi"}}}]}}),
        ),
    ] {
        let answer = cluster.patch(&resize, kind, patch).await.expect(200);
        assert_eq!(answer.body["metadata"]["generation"], generation, "{kind}");
    }
    let (read, by_resize) = (cluster.get(&main).await, cluster.get(&resize).await);
    assert_eq!(read.body, by_resize.expect(200).body);
    assert_eq!(
        read.body["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "28m", "memory": "36Mi"}})
    );

    let removed = json!([{"op": "remove", "path": "/spec/containers/0/resources/requests/memory"}]);
    let refused = cluster.patch(&resize, "json-patch", removed).await;
    assert_eq!(
        refused.expect(422).message(),
        "Pod \"p\" is invalid: spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
    );
    for method in ["POST", "DELETE"] {
        let none = Value::Null;
        cluster.call(method, &resize, &[], none).await.expect(405);
    }
    let core = cluster.get("/api/v1").await.body;
    let entry = json!({
        "name": "pods/resize", "singularName": "", "namespaced": true, "kind": "Pod",
        "verbs": ["get", "patch", "update"],
    });
    assert!(core["resources"].as_array().unwrap().contains(&entry));
}

#[tokio::test]
async fn who_runs_something_in_a_pod_may_create() {
    let mut cluster = cluster().await;
    cluster.post(PODS, pod("p")).await.expect(201);
    // May get, and nothing else.
    cluster.client = vetch_server::client(&cluster.router, "reader", &[]);
    for method in ["GET", "POST"] {
        for sub in ["exec", "attach", "portforward"] {
            let path = format!("{PODS}/p/{sub}?command=ls&stdout=true");
            let refused = cluster.call(method, &path, &[], Value::Null).await;
            let message = format!(
                "pods \"p\" is forbidden: User \"reader\" cannot create resource \"pods/{sub}\" in API group \"\" in the namespace \"default\""
            );
            assert_eq!((refused.code, refused.message()), (403, message.as_str()));
        }
    }
}

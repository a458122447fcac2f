use serde_json::{Value, json};

use crate::cluster::{Answer, DEPLOYMENTS, MAPS, PODS, cluster, deployment, map, pod};

#[tokio::test]
async fn refusals_are_worded_as_in_kubernetes() {
    let cluster = cluster().await;
    cluster
        .post(DEPLOYMENTS, deployment("web"))
        .await
        .expect(201);
    cluster.post(MAPS, map("a")).await.expect(201);
    let with = |mut object: Value, pointer: &str, value: Value| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    };
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let web = format!("{DEPLOYMENTS}/web");
    let table = [
        (
            "GET",
            web[..web.len() - 1].to_owned(),
            Value::Null,
            404,
            "NotFound",
            "deployments.apps \"we\" not found",
        ),
        (
            "GET",
            "/api/v1/nothings".to_owned(),
            Value::Null,
            404,
            "NotFound",
            "the server could not find the requested resource",
        ),
        (
            "POST",
            DEPLOYMENTS.to_owned(),
            deployment("web"),
            409,
            "AlreadyExists",
            "deployments.apps \"web\" already exists",
        ),
        (
            "POST",
            strict.clone(),
            with(deployment("x"), "/spec/foo", json!(1)),
            400,
            "BadRequest",
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\"",
        ),
        (
            "POST",
            DEPLOYMENTS.to_owned(),
            with(deployment("x"), "/spec/replicas", json!("three")),
            400,
            "BadRequest",
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "POST",
            MAPS.to_owned(),
            map("A_b"),
            422,
            "Invalid",
            "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            "POST",
            MAPS.to_owned(),
            json!({"metadata": {}}),
            422,
            "Invalid",
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST",
            MAPS.to_owned(),
            pod("p"),
            400,
            "BadRequest",
            "Pod in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion",
        ),
        (
            "POST",
            MAPS.to_owned(),
            with(map("x"), "/metadata/namespace", json!("other")),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            MAPS.to_owned(),
            with(map("x"), "/metadata/resourceVersion", json!("3")),
            500,
            "",
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "POST",
            "/api/v1/configmaps".to_owned(),
            map("x"),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            "PUT",
            web.clone(),
            deployment("other"),
            400,
            "BadRequest",
            "the name of the object (other) does not match the name on the URL (web)",
        ),
        (
            "PUT",
            web.clone(),
            json!({"metadata": {}}),
            400,
            "BadRequest",
            "the name of the object (web based on URL) was undeterminable: name must be provided",
        ),
        (
            "PUT",
            web.clone(),
            with(deployment("web"), "/metadata/uid", json!("u")),
            409,
            "Conflict",
            "Operation cannot be fulfilled on deployments.apps \"web\": Precondition failed: UID in precondition: u, UID in object meta: ",
        ),
        (
            "PUT",
            format!("{MAPS}/none"),
            map("none"),
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
        (
            "GET",
            format!("{MAPS}?labelSelector=a+b"),
            Value::Null,
            400,
            "BadRequest",
            "unable to parse requirement: ",
        ),
        (
            "GET",
            format!("{MAPS}?fieldSelector=spec.x%3D1"),
            Value::Null,
            400,
            "BadRequest",
            "field label not supported: spec.x",
        ),
        (
            "GET",
            format!("{MAPS}?resourceVersion=99999999"),
            Value::Null,
            504,
            "Timeout",
            "Too large resource version: 99999999, current: ",
        ),
        (
            "GET",
            format!("{PODS}?continue=nonsense"),
            Value::Null,
            400,
            "BadRequest",
            "continue key is not valid",
        ),
        (
            "DELETE",
            format!("{MAPS}/none"),
            Value::Null,
            404,
            "NotFound",
            "configmaps \"none\" not found",
        ),
    ];
    for (method, path, body, code, reason, message) in table {
        let answer = cluster.call(method, &path, &[], body).await;
        assert_eq!(
            (answer.code, answer.body["kind"].as_str()),
            (code, Some("Status")),
            "{method} {path}: {}",
            answer.body
        );
        assert_eq!(
            answer.body["reason"].as_str().unwrap_or_default(),
            reason,
            "{method} {path}"
        );
        assert!(
            answer.message().starts_with(message),
            "{method} {path}: {}",
            answer.message()
        );
        assert_eq!(answer.body["code"], code);
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_as_what_it_would_be() {
    let mut cluster = cluster().await;
    let not_found = "the server could not find the requested resource";
    let review = "/apis/authentication.k8s.io/v1alpha1/selfsubjectreviews";
    let made = cluster.post(review, json!({})).await.expect(404);
    assert_eq!(made.message(), not_found);
    // May get, and nothing else.
    cluster.client = vetch_server::client(&cluster.router, "reader", &[]);
    let things = "/apis/example.com/v1/namespaces/n/things";
    for (method, path, code, message, details) in [
        (
            "POST",
            review.to_owned(),
            403,
            "selfsubjectreviews.authentication.k8s.io is forbidden: User \"reader\" cannot create resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope",
            json!({"group": "authentication.k8s.io", "kind": "selfsubjectreviews"}),
        ),
        (
            "PUT",
            format!("{things}/t/status"),
            403,
            "things.example.com \"t\" is forbidden: User \"reader\" cannot update resource \"things/status\" in API group \"example.com\" in the namespace \"n\"",
            json!({"name": "t", "group": "example.com", "kind": "things"}),
        ),
        ("GET", format!("{things}/t"), 404, not_found, Value::Null),
        (
            "GET",
            things.to_owned(),
            403,
            "things.example.com is forbidden: User \"reader\" cannot list resource \"things\" in API group \"example.com\" in the namespace \"n\"",
            json!({"group": "example.com", "kind": "things"}),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/n".to_owned(),
            403,
            "namespaces \"n\" is forbidden: User \"reader\" cannot delete resource \"namespaces\" in API group \"\" in the namespace \"n\"",
            json!({"name": "n", "kind": "namespaces"}),
        ),
        (
            "POST",
            "/apis/example.com/v1".to_owned(),
            403,
            "forbidden: User \"reader\" cannot post path \"/apis/example.com/v1\"",
            json!({}),
        ),
    ] {
        let answer = cluster.call(method, &path, &[], Value::Null).await;
        assert_eq!(
            (answer.code, answer.message(), &answer.body["details"]),
            (code, message, &details),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn bodies_in_other_formats_are_refused() {
    let cluster = cluster().await;
    cluster.post(MAPS, map("a")).await.expect(201);
    for (method, path, media, told) in [
        (
            "POST",
            MAPS.to_owned(),
            "application/xml",
            "the body of the request was in an unknown format (application/xml)",
        ),
        (
            "PATCH",
            format!("{MAPS}/a"),
            "application/apply-patch+yaml",
            "server-side apply (application/apply-patch+yaml) is not served here",
        ),
        (
            "PATCH",
            format!("{MAPS}/a"),
            "application/json",
            "the body of the request was in an unknown format (application/json)",
        ),
    ] {
        let answer = cluster
            .call(method, &path, &[("content-type", media)], map("b"))
            .await
            .expect(415);
        assert!(answer.message().starts_with(told), "{}", answer.message());
        assert_eq!(answer.body["reason"], "UnsupportedMediaType");
    }
}

#[tokio::test]
async fn unknown_fields_warn_where_that_is_wanted() {
    let cluster = cluster().await;
    let mut odd = map("a");
    odd["foo"] = 1.into();
    let made = cluster.post(MAPS, odd.clone()).await.expect(201);
    assert_eq!(
        made.headers["warning"],
        "299 - \"unknown field \\\"foo\\\"\""
    );
    assert_eq!(made.body.get("foo"), None);
    odd["metadata"]["name"] = "b".into();
    let made = cluster
        .post(&format!("{MAPS}?fieldValidation=Ignore"), odd)
        .await
        .expect(201);
    assert!(!made.headers.contains_key("warning"));
    let patch = json!({"foo": 1});
    let refused = cluster
        .patch(
            &format!("{MAPS}/a?fieldValidation=Strict"),
            "merge-patch",
            patch,
        )
        .await
        .expect(422);
    assert_eq!(
        refused.message(),
        " \"\" is invalid: patch: Invalid value: \"{\\\"foo\\\":1}\": strict decoding error: unknown field \"foo\""
    );
}

#[tokio::test]
async fn what_is_written_is_warned_of_by_its_kind() {
    let cluster = cluster().await;
    let told = |answer: &Answer| -> Vec<String> {
        let all = answer.headers.get_all("warning").iter();
        let texts = all.map(|own| own.to_str().unwrap().to_owned());
        texts.collect()
    };
    let services = "/api/v1/namespaces/default/services";
    let mut service = json!({
        "metadata": {"name": "a"}, "foo": 1,
        "spec": {"clusterIP": "None", "externalIPs": ["192.0.2.1"], "ports": [{"port": 80}]},
    });
    let ignored = "299 - \"spec.externalIPs is ignored for headless services\"";
    let deprecated = "299 - \"spec.externalIPs is deprecated\"";
    let unknown = "299 - \"unknown field \\\"foo\\\"\"";
    let made = cluster.post(services, service.clone()).await.expect(201);
    assert_eq!(told(&made), [unknown, ignored, deprecated]);
    service["metadata"]["resourceVersion"] = made.version().into();
    let a = format!("{services}/a");
    let quiet = format!("{a}?fieldValidation=Ignore&dryRun=All");
    let put = cluster.put(&quiet, service).await.expect(200);
    assert_eq!(told(&put), [ignored, deprecated]);
    // A status has warnings of its own.
    let ip = json!({"status": {"loadBalancer": {"ingress": [{"ip": "2001:DB8::1"}]}}});
    let balanced = json!({"metadata": {"name": "b"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30000}]}});
    cluster.post(services, balanced).await.expect(201);
    let patched = cluster
        .patch(&format!("{services}/b/status"), "merge-patch", ip)
        .await
        .expect(200);
    let canonical = "299 - \"status.loadBalancer.ingress[0]: IPv6 address \\\"2001:DB8::1\\\" should be in RFC 5952 canonical format (\\\"2001:db8::1\\\")\"";
    assert_eq!(told(&patched), [canonical]);
    let none = json!({"spec": {"externalIPs": null}});
    let patched = cluster.patch(&a, "merge-patch", none).await.expect(200);
    assert_eq!(told(&patched), [""; 0]);
}

#[tokio::test]
async fn a_deprecated_kind_is_told_of_whatever_is_asked() {
    let cluster = cluster().await;
    let words =
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    let all = "/api/v1/namespaces/default/endpoints";
    let one = "/api/v1/namespaces/default/endpoints/a";
    for (method, path, body, code) in [
        ("GET", one, Value::Null, 404),
        ("POST", all, json!({"metadata": {"name": "a"}}), 201),
        ("GET", all, Value::Null, 200),
        ("PUT", one, json!({"metadata": {"name": "a"}}), 200),
        ("DELETE", one, Value::Null, 200),
    ] {
        let answer = cluster.call(method, path, &[], body).await.expect(code);
        assert_eq!(answer.headers["warning"], words, "{method} {path}");
    }
}

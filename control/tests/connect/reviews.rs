//! The reviews, and acting as somebody else.

use serde_json::{Value, json};

use super::cluster::{ADMIN, cluster};

const PODS: &str = "/api/v1/namespaces/default/pods";
const NODE: (&str, &[&str]) = ("system:node:n", &["system:nodes"]);

#[tokio::test]
async fn access_is_told_as_it_would_be_granted() {
    let cluster = cluster().await;
    let node = json!({"user": "system:node:n", "groups": ["system:nodes"]});
    let with = |user: &Value, what: Value| {
        let mut spec = user.clone();
        spec["resourceAttributes"] = what;
        spec
    };
    let narrow =
        json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]});
    for (spec, allowed) in [
        (
            with(
                &node,
                json!({"verb": "get", "resource": "nodes", "name": "n"}),
            ),
            true,
        ),
        (
            with(&node, json!({"verb": "list", "resource": "secrets"})),
            false,
        ),
        (
            with(&node, json!({"verb": "list", "resource": "pods"})),
            false,
        ),
        (
            with(
                &node,
                json!({"verb": "list", "resource": "pods", "fieldSelector": narrow}),
            ),
            true,
        ),
        (
            json!({"user": "a", "groups": ["system:masters"], "nonResourceAttributes": {"verb": "get", "path": "/x"}}),
            true,
        ),
        (
            json!({"user": "a", "nonResourceAttributes": {"verb": "get", "path": "/x"}}),
            false,
        ),
    ] {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let made = cluster.post(path, json!({"spec": spec})).await.expect(201);
        assert_eq!(made["status"]["allowed"], allowed, "{made}");
        assert_eq!(made["spec"], spec);
    }
    for (path, spec, message) in [
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            json!({"user": "a"}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            json!({"resourceAttributes": {"resource": "pods"}}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
        (
            "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews",
            json!({"user": "a", "resourceAttributes": {"resource": "pods", "namespace": "b"}}),
            "LocalSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace",
        ),
    ] {
        let answer = cluster.post(path, json!({"spec": spec})).await;
        assert_eq!((answer.code, answer.message()), (422, message));
    }
}

#[tokio::test]
async fn whoever_asks_learns_about_themselves() {
    let cluster = cluster().await;
    let jane: (&str, &[&str]) = ("jane", &["devs"]);
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let may = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let all = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let made = cluster
        .call(jane, "POST", who, &[], json!({}))
        .await
        .expect(201);
    let user = &made["status"]["userInfo"];
    assert_eq!(user["username"], "jane");
    assert_eq!(user["groups"], json!(["devs", "system:authenticated"]));
    let spec = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    for (user, allowed) in [(jane, false), (ADMIN, true)] {
        let made = cluster.call(user, "POST", may, &[], spec.clone()).await;
        assert_eq!(made.expect(201)["status"]["allowed"], allowed);
    }
    let spec = json!({"spec": {"namespace": "default"}});
    let made = cluster.call(NODE, "POST", all, &[], spec).await.expect(201);
    assert_eq!(made["status"]["incomplete"], true);
}

#[tokio::test]
async fn who_may_stands_in_for_somebody_else() {
    let cluster = cluster().await;
    let jane = [("impersonate-user", "jane"), ("impersonate-group", "devs")];
    let answer = cluster.call(ADMIN, "GET", PODS, &jane, Value::Null).await;
    assert_eq!(
        (answer.code, answer.message()),
        (
            403,
            "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        )
    );
    let admin = [
        ("impersonate-user", "admin"),
        ("impersonate-group", "system:masters"),
    ];
    let answer = cluster.call(NODE, "GET", PODS, &admin, Value::Null).await;
    assert_eq!(
        (answer.code, answer.message()),
        (
            403,
            "users \"admin\" is forbidden: User \"system:node:n\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
        )
    );
    let group = [("impersonate-group", "system:masters")];
    let answer = cluster.call(NODE, "GET", PODS, &group, Value::Null).await;
    assert_eq!(answer.code, 500, "{}", answer.body);
}

#[tokio::test]
async fn tokens_are_reviewed() {
    let cluster = cluster().await;
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let token = "/api/v1/namespaces/default/serviceaccounts/app/token";
    let made = cluster.create(token, json!({"spec": {}})).await;
    let token = &made["status"]["token"];
    let review = |spec: Value| {
        let cluster = &cluster;
        async move { cluster.post(path, json!({"spec": spec})).await }
    };
    let status = review(json!({"token": token})).await.expect(201);
    let status = &status["status"];
    assert_eq!(status["authenticated"], true);
    assert_eq!(
        status["user"]["username"],
        "system:serviceaccount:default:app"
    );
    for spec in [
        json!({"token": "x"}),
        json!({"token": token, "audiences": ["vault"]}),
    ] {
        let status = review(spec).await.expect(201)["status"].clone();
        assert!(status["authenticated"].is_null(), "{status}");
        assert!(
            status["error"]
                .as_str()
                .unwrap()
                .contains("invalid bearer token")
        );
    }
    assert_eq!(review(json!({})).await.code, 400);
}

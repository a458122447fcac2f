//! serviceaccounts/token, and what its tokens open.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::cluster::{Cluster, cluster};

const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/app/token";

async fn request(cluster: &Cluster, spec: Value) -> super::cluster::Answer {
    let body =
        json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
    cluster.post(TOKEN, body).await
}

/// Who the bearer of this token is, from outside; a 401 is nobody.
async fn whoami(cluster: &Cluster, token: &str) -> Option<Value> {
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::from("{}"))
        .unwrap();
    let response = cluster.router.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    match code {
        201 => Some(body["status"]["userInfo"].clone()),
        401 => None,
        other => panic!("{other}: {body}"),
    }
}

#[tokio::test]
async fn a_token_stands_for_its_account_and_pod() {
    let cluster = cluster().await;
    let pod = cluster.pod("p", "app", "n").await;
    let uid = &pod["metadata"]["uid"];
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid});
    let made = request(
        &cluster,
        json!({"expirationSeconds": 600, "boundObjectRef": bound}),
    )
    .await
    .expect(201);
    assert_eq!(made["spec"]["expirationSeconds"], 600);
    let user = whoami(&cluster, made["status"]["token"].as_str().unwrap()).await;
    let user = user.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:app");
    let extra = &user["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], json!([uid]));
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        json!(["n"])
    );
    // A pod's own token lives longer than it says, so that the pod may renew it in time.
    let made = request(
        &cluster,
        json!({"expirationSeconds": 3607, "boundObjectRef": bound}),
    )
    .await
    .expect(201);
    let stated = made["status"]["expirationTimestamp"].as_str().unwrap();
    let stated: jiff::Timestamp = stated.parse().unwrap();
    let left = stated.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((3500..=3607).contains(&left), "{left}");

    let foreign = request(&cluster, json!({"audiences": ["vault"]}))
        .await
        .expect(201);
    assert_eq!(
        whoami(&cluster, foreign["status"]["token"].as_str().unwrap()).await,
        None
    );
}

#[tokio::test]
async fn tokens_that_cannot_be_are_refused() {
    let cluster = cluster().await;
    cluster.pod("p", "app", "n").await;
    cluster.pod("other", "default", "n").await;
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    for (spec, code, message) in [
        (
            json!({"expirationSeconds": 599}),
            422,
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": (1_i64 << 32) + 1}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        (bound("Pod", "none", ""), 404, "pods \"none\" not found"),
        (
            bound("Pod", "p", "another"),
            409,
            "the UID in the bound object reference (another) does not match the UID in record",
        ),
        (
            bound("Pod", "other", ""),
            400,
            "cannot bind token for serviceaccount \"app\" to pod running with different serviceaccount name.",
        ),
        (
            bound("ConfigMap", "c", ""),
            400,
            "cannot bind token for serviceaccount \"app\"",
        ),
    ] {
        let answer = request(&cluster, spec).await;
        assert!(
            answer.code == code && answer.message().contains(message),
            "{}",
            answer.body
        );
    }
    let path = TOKEN.replace("app", "none");
    let answer = cluster.post(&path, json!({"spec": {}})).await;
    assert_eq!(answer.message(), "serviceaccounts \"none\" not found");
}

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::testing::api;

/// An API server that knows one token and what its user may do.
fn access(asked: Arc<Mutex<Vec<Value>>>) -> Access {
    let client = api(move |request, body| {
        let review: Value = serde_json::from_slice(&body).unwrap();
        asked.lock().unwrap().push(review["spec"].clone());
        let status = match request.uri.path() {
            "/apis/authentication.k8s.io/v1/tokenreviews" if review["spec"]["token"] == "good" => {
                json!({
                    "authenticated": true,
                    "user": {"username": "reader", "uid": "7", "groups": ["system:authenticated"], "extra": {"k": ["v"]}},
                })
            }
            "/apis/authentication.k8s.io/v1/tokenreviews" => json!({"authenticated": false}),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" => {
                let subresource = &review["spec"]["resourceAttributes"]["subresource"];
                json!({"allowed": subresource == "stats" || subresource == "pods"})
            }
            path => return (404, json!({"kind": "Status", "message": path, "code": 404})),
        };
        let mut answer = review;
        answer["status"] = status;
        (201, answer)
    });
    Access::new(client, "n1")
}

fn headers(authorization: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization.parse().unwrap());
    headers
}

#[tokio::test]
async fn the_api_server_judges_tokens_and_rights() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let access = access(asked.clone());
    let check = async |authorization: &str, path: &str| {
        access
            .check(None, &Method::GET, path, &headers(authorization))
            .await
            .map(|user| user.name)
            .map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        check("Bearer good", "/stats/summary").await,
        Ok("reader".into())
    );
    let asked_for = asked.lock().unwrap().clone();
    assert_eq!(asked_for[0], json!({"token": "good"}));
    assert_eq!(
        asked_for[1],
        json!({
            "user": "reader", "uid": "7", "groups": ["system:authenticated"], "extra": {"k": ["v"]},
            "resourceAttributes": {
                "verb": "get", "version": "v1", "resource": "nodes", "subresource": "stats", "name": "n1",
            },
        })
    );
    assert_eq!(check("Bearer good", "/pods").await, Ok("reader".into()));
    assert_eq!(
        check("bearer good", "/containerLogs/a/b/c").await,
        Err("Forbidden (user=reader, verb=get, resource=nodes, subresource(s)=[\"proxy\"])".into())
    );
    let known = asked.lock().unwrap().len();
    assert_eq!(
        check("Bearer good", "/stats/summary").await,
        Ok("reader".into())
    );
    assert_eq!(asked.lock().unwrap().len(), known, "answers are kept");
    for authorization in ["Bearer bad", "Basic good", "Bearer ", "good"] {
        assert_eq!(
            check(authorization, "/stats/x").await,
            Err("Unauthorized".into())
        );
    }
}

#[tokio::test]
async fn masters_need_no_api_server() {
    let client = api(|_, _| panic!("asked the API server"));
    let access = Access::new(client, "n1");
    let master = User {
        name: "admin".into(),
        groups: vec!["system:masters".into()],
        ..User::default()
    };
    let none = HeaderMap::new();
    let path = "/containerLogs/a/b/c";
    assert!(
        access
            .check(Some(&master), &Method::GET, path, &none)
            .await
            .is_ok()
    );
    let nobody = access.check(None, &Method::GET, "/healthz", &none).await;
    assert!(matches!(nobody, Err(Refusal::Unknown)));
}

//! A server over a real etcd, called in process.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use vetch_server::testing::{ApiServer, Open, Parts};
use vetch_store::testing::Etcd;

pub struct Cluster {
    pub client: kube::Client,
    pub router: axum::Router,
    pub etcd: Etcd,
    _api: ApiServer,
}

pub async fn cluster() -> Cluster {
    let etcd = Etcd::start().await;
    let parts = Parts {
        guard: Arc::new(Open(|user, action| {
            user.name == "admin" || action.verb == "get"
        })),
        ..Parts::default()
    };
    let api = ApiServer::start(&etcd, parts).await;
    Cluster {
        client: api.client("admin", &[]),
        router: api.router.clone(),
        etcd,
        _api: api,
    }
}

/// One answer, its body read as JSON.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub fn version(&self) -> String {
        self.body["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn names(&self) -> Vec<String> {
        let items = self.body["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| {
                item["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect()
    }

    #[track_caller]
    pub fn expect(self, code: u16) -> Answer {
        assert_eq!(self.code, code, "{}", self.body);
        self
    }
}

impl Cluster {
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client
            .send(request.body(Body::from(body.into_bytes())).unwrap())
            .await
            .unwrap()
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let response = self.send(method, path, headers, text).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            body,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &[], body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, &[], body).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        self.call("DELETE", path, &[], body).await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        let media = format!("application/{kind}+json");
        self.call("PATCH", path, &[("content-type", &media)], body)
            .await
    }

    /// A watch that ends by itself: all its events.
    pub async fn watch(&self, path: &str, headers: &[(&str, &str)]) -> Vec<Value> {
        let response = self.send("GET", path, headers, String::new()).await;
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        lines(&bytes)
    }
}

pub fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub fn map(name: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

pub fn deployment(name: &str) -> Value {
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]},
            },
        },
    })
}

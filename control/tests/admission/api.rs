//! One API server over a real etcd, with all plugins, called in process.

use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use vetch_control::admission::{AdmissionConfig, RANGES, plugins};
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// One API server; a cluster may have several over the same etcd. What is refused, a plugin refused.
pub struct Api(ApiServer);

impl Api {
    pub async fn start(etcd: &Etcd, service_cidr: &str) -> Api {
        let config = AdmissionConfig {
            service_cidrs: service_cidr
                .split(',')
                .map(|network| network.parse().unwrap())
                .collect(),
            node_port_range: 30000..=32767,
        };
        let parts = Parts {
            prefixes: vec![RANGES.to_owned()],
            admission: plugins(config),
            ..Parts::default()
        };
        Api(ApiServer::start(etcd, parts).await)
    }

    pub fn client(&self) -> kube::Client {
        self.0.client("admin", &[])
    }

    pub async fn call_as(
        &self,
        (user, groups): (&str, &[&str]),
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let text = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(
                "content-type",
                match method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                },
            )
            .body(Body::from(text.into_bytes()))
            .unwrap();
        let client = self.0.client(user, groups);
        let (parts, body) = client.send(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(("admin", &[]), method, path, body).await
    }

    #[track_caller]
    pub fn accepted((code, body): (u16, Value)) -> Value {
        assert!((200..300).contains(&code), "{code} {body}");
        body
    }

    pub async fn namespace(&self, name: &str) {
        let body = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        Api::accepted(self.call("POST", "/api/v1/namespaces", body).await);
    }
}

pub fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

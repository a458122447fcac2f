//! One API server over a real etcd, with all plugins, called in process.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use vetch_control::admission::{AdmissionConfig, RANGES, plugins};
use vetch_identity::User;
use vetch_server::guard::{Action, Guard};
use vetch_server::{Server, ServerConfig};
use vetch_store::Store;
use vetch_store::testing::Etcd;

pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const PODS: &str = "/api/v1/namespaces/default/pods";

/// Lets everyone in: what is refused here, a plugin refused.
struct Open;

impl Guard for Open {
    fn authenticate<'a>(
        &'a self,
        _: &'a Server,
        _: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>> {
        Box::pin(async move { certificate.cloned() })
    }

    fn authorize<'a>(
        &'a self,
        _: &'a Server,
        _: &'a User,
        _: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// One API server; a cluster may have several over the same etcd.
pub struct Api {
    router: axum::Router,
    _stop: DropGuard,
}

impl Api {
    pub async fn start(etcd: &Etcd, service_cidr: &str) -> Api {
        let stop = CancellationToken::new();
        let registry = vetch_api::registry();
        let mut prefixes = Server::prefixes(registry);
        prefixes.push(RANGES.to_owned());
        let store = Store::open(&[etcd.endpoint().to_owned()], &prefixes, stop.clone())
            .await
            .unwrap();
        store.ready().await;
        let config = AdmissionConfig {
            service_cidrs: service_cidr
                .split(',')
                .map(|network| network.parse().unwrap())
                .collect(),
            node_port_range: 30000..=32767,
        };
        let router = vetch_server::router(Server::new(ServerConfig {
            store,
            registry,
            admission: plugins(config),
            connectors: HashMap::new(),
            guard: Arc::new(Open),
        }));
        Api {
            router,
            _stop: stop.drop_guard(),
        }
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
        let client = vetch_server::client(&self.router, user, groups);
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

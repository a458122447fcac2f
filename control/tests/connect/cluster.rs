//! One API server over its own etcd.

use std::sync::Arc;

use axum::Router;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use vetch_control::access::Access;
use vetch_control::admission::{AdmissionConfig, RANGES, plugins};
use vetch_control::connect::{KUBELET_CLIENT, connectors};
use vetch_identity::{Kept, Pki};
use vetch_server::guard::Guard;
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

pub const ADMIN: (&str, &[&str]) = ("admin", &["system:masters"]);

pub struct Cluster {
    pub router: Router,
    pub pki: Pki,
    pub stop: CancellationToken,
    // Held until the end.
    _etcd: Etcd,
    _directory: TempDir,
    _api: ApiServer,
}

pub struct Answer {
    pub code: u16,
    pub body: Value,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }
}

pub async fn cluster() -> Cluster {
    guarded(|access| Arc::new(access)).await
}

/// `guard`: what stands before the API server, given its own.
pub async fn guarded(guard: fn(Access) -> Arc<dyn Guard>) -> Cluster {
    let etcd = Etcd::start().await;
    let directory = TempDir::new().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let kubelet_client = Kept::open(&pki, KUBELET_CLIENT, Timestamp::now()).unwrap();
    let access = Access::new(pki.tokens().clone());
    let config = AdmissionConfig {
        service_cidrs: vec!["10.96.0.0/24".parse().unwrap()],
        node_port_range: 30000..=32767,
    };
    let parts = Parts {
        prefixes: vec![RANGES.to_owned()],
        admission: plugins(config),
        connectors: connectors(&access, Arc::new(kubelet_client)).unwrap(),
        guard: guard(access),
    };
    let api = ApiServer::start(&etcd, parts).await;
    let cluster = Cluster {
        router: api.router.clone(),
        pki,
        stop: api.stop.clone(),
        _etcd: etcd,
        _directory: directory,
        _api: api,
    };
    cluster
        .create(
            "/api/v1/namespaces",
            json!({"metadata": {"name": "default"}}),
        )
        .await;
    for account in ["default", "app"] {
        cluster
            .create(
                "/api/v1/namespaces/default/serviceaccounts",
                json!({"metadata": {"name": account}}),
            )
            .await;
    }
    cluster
}

impl Cluster {
    /// In process, as this user; headers of a request from outside may be added.
    pub async fn send(
        &self,
        (user, groups): (&str, &[&str]),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Response<Body> {
        let text = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        let mut request = Request::builder().method(method).uri(path);
        let map: &mut HeaderMap = request.headers_mut().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        let request = request.body(Body::from(text.into_bytes())).unwrap();
        let client = vetch_server::client(&self.router, user, groups);
        client.send(request).await.unwrap()
    }

    pub async fn call(
        &self,
        user: (&str, &[&str]),
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let response = self.send(user, method, path, headers, body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer {
            code,
            body: serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()),
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(ADMIN, "GET", path, &[], Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(ADMIN, "POST", path, &[], body).await
    }

    pub async fn create(&self, path: &str, body: Value) -> Value {
        self.post(path, body).await.expect(201)
    }

    pub async fn pod(&self, name: &str, account: &str, node: &str) -> Value {
        let spec = json!({
            "serviceAccountName": account, "nodeName": node,
            "containers": [{"name": "c", "image": "i"}],
        });
        self.create(
            "/api/v1/namespaces/default/pods",
            json!({"metadata": {"name": name}, "spec": spec}),
        )
        .await
    }
}

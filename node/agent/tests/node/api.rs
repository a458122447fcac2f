//! An API server in process over a real etcd, that may be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vetch_server::testing::{self, Parts};
use vetch_store::testing::Etcd;

const LIMIT: Duration = Duration::from_secs(20);

pub struct ApiServer {
    /// The admin's.
    pub client: Client,
    /// Through a door that can be closed.
    pub node: Client,
    pub away: Arc<AtomicBool>,
    /// Requests that found the door closed.
    pub refused: Arc<AtomicU32>,
    _server: testing::ApiServer,
    _etcd: Etcd,
}

impl ApiServer {
    pub async fn start() -> ApiServer {
        let etcd = Etcd::start().await;
        let server = testing::ApiServer::start(&etcd, Parts::default()).await;
        let client = server.client("admin", &[]);
        let inner = server.client("system:node:n1", &["system:nodes"]);
        let (away, refused) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let door = {
            let (away, refused) = (away.clone(), refused.clone());
            tower::service_fn(move |request: http::Request<Body>| {
                let (inner, away, refused) = (inner.clone(), away.clone(), refused.clone());
                async move {
                    if away.load(Ordering::Relaxed) {
                        refused.fetch_add(1, Ordering::Relaxed);
                        return Err::<http::Response<Body>, tower::BoxError>("away".into());
                    }
                    Ok(inner.send(request).await?)
                }
            })
        };
        ApiServer {
            client,
            node: Client::new(door.boxed_clone(), "default"),
            away,
            refused,
            _server: server,
            _etcd: etcd,
        }
    }

    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// What the node controller does.
    pub async fn give_cidr(&self, node: &str, cidr: &str) {
        let patch = json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
        self.patch(node, patch).await;
    }

    pub async fn patch(&self, node: &str, patch: Value) {
        let params = PatchParams::default();
        let nodes = self.nodes();
        nodes
            .patch(node, &params, &Patch::Strategic(patch))
            .await
            .unwrap();
    }

    pub async fn create(&self, node: Value) {
        let mut node: Node = serde_json::from_value(node).unwrap();
        let status = node.status.take();
        let nodes = self.nodes();
        let made = nodes.create(&PostParams::default(), &node).await.unwrap();
        let name = made.metadata.name.unwrap();
        if let Some(status) = status {
            let patch = Patch::Merge(json!({"status": status}));
            let params = PatchParams::default();
            nodes.patch_status(&name, &params, &patch).await.unwrap();
        }
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.client.request(request).await.unwrap_or(Value::Null)
    }

    /// Asks again until `done` says yes; the last answer.
    #[track_caller]
    pub fn until<'a>(
        &'a self,
        path: &'a str,
        what: &'a str,
        done: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + LIMIT;
            loop {
                let value = self.get(path).await;
                if done(&value) {
                    return value;
                }
                assert!(
                    Instant::now() < deadline,
                    "{caller}: waited for {what}: {value:#}"
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

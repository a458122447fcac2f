//! The API server of a test, in process over a real etcd, and what a user does
//! with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use vetch_server::Server;
use vetch_server::connect::{Call, Connect, Connector};
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

pub const NODE: &str = "node-1";
const LIMIT: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub client: Client,
    pub tokens: Arc<Tokens>,
    _server: Option<(ApiServer, Etcd)>,
}

/// Signs nothing, counts.
#[derive(Default)]
pub struct Tokens {
    issued: AtomicU32,
    /// Seconds; what was asked for when zero.
    pub life: AtomicU32,
}

impl Connect for Tokens {
    fn call<'a>(
        &'a self,
        _: &'a Server,
        call: Call,
    ) -> BoxFuture<'a, vetch_server::status::Result<Response>> {
        Box::pin(async move {
            let mut request: Value = serde_json::from_slice(&call.body).unwrap();
            let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
            let asked = request["spec"]["expirationSeconds"].as_i64().unwrap();
            let life = match self.life.load(Ordering::Relaxed) {
                0 => asked,
                life => i64::from(life),
            };
            let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(life);
            let bound = &request["spec"]["boundObjectRef"]["name"];
            let token = format!("token-{number}-for-{}", bound.as_str().unwrap());
            request["status"] = json!({"token": token, "expirationTimestamp": until});
            Ok(axum::Json(request).into_response())
        })
    }
}

impl Cluster {
    pub async fn start() -> Cluster {
        let etcd = Etcd::start().await;
        let tokens = Arc::new(Tokens::default());
        let connector = Connector::Answer(tokens.clone());
        let parts = Parts {
            connectors: HashMap::from([("serviceaccounts/token", connector)]),
            ..Parts::default()
        };
        let server = ApiServer::start(&etcd, parts).await;
        let cluster = Cluster {
            client: server.client("admin", &[]),
            tokens,
            _server: Some((server, etcd)),
        };
        cluster.make_node().await;
        cluster
    }

    /// One whose server nobody reaches.
    pub fn away() -> Cluster {
        let service = tower::service_fn(async |_: http::Request<kube::client::Body>| {
            Err::<http::Response<kube::client::Body>, _>(tower::BoxError::from("no route to host"))
        });
        Cluster {
            client: Client::new(service, "default"),
            tokens: Arc::default(),
            _server: None,
        }
    }

    async fn make_node(&self) {
        let resources =
            json!({"cpu": "4", "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "110"});
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": NODE, "labels": {"zone": "a"}},
            "status": {"capacity": resources, "allocatable": resources},
        }))
        .unwrap();
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let patch = json!({"status": {"capacity": resources, "allocatable": resources}});
        nodes
            .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Bound to the node, as by the scheduler.
    pub async fn create(&self, name: &str, spec: Value) -> Pod {
        self.create_with(json!({"name": name}), spec).await
    }

    pub async fn create_with(&self, metadata: Value, mut spec: Value) -> Pod {
        spec["nodeName"] = json!(NODE);
        spec["terminationGracePeriodSeconds"] = match &spec["terminationGracePeriodSeconds"] {
            Value::Null => json!(1),
            own => own.clone(),
        };
        let pod = json!({"metadata": metadata, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    pub async fn delete(&self, name: &str) {
        self.pods()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub async fn get(&self, name: &str) -> Option<Value> {
        let pod = self.pods().get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(pod).unwrap())
    }

    /// The pod, once `done` holds for it.
    pub async fn wait(&self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        loop {
            let pod = self.get(name).await;
            if let Some(pod) = pod.as_ref().filter(|pod| done(pod)) {
                return pod.clone();
            }
            if Instant::now() > deadline {
                let events = self.events(name).await.join("\n");
                let status = pod.map(|pod| pod["status"].clone());
                panic!("waited {LIMIT:?} for {name}: {what}\n{status:#?}\n{events}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn ready(&self, name: &str) -> Value {
        self.wait(name, "Ready", |pod| {
            condition(pod, "Ready")["status"] == "True"
        })
        .await
    }

    pub async fn phase(&self, name: &str, phase: &str) -> Value {
        self.wait(name, phase, |pod| pod["status"]["phase"] == phase)
            .await
    }

    pub async fn gone(&self, name: &str) {
        let deadline = Instant::now() + LIMIT;
        while let Some(pod) = self.get(name).await {
            assert!(Instant::now() < deadline, "{name} stays: {pod:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `Reason: message` of all events of a pod.
    pub async fn events(&self, name: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let list = events.list(&ListParams::default()).await.unwrap();
        list.into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .map(|event| {
                let text = |field: Option<String>| field.unwrap_or_default();
                format!("{}: {}", text(event.reason), text(event.message))
            })
            .collect()
    }

    /// Waits for an event that begins so.
    pub async fn told(&self, name: &str, words: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let events = self.events(name).await;
            if events.iter().any(|event| event.starts_with(words)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no {words:?} in\n{}",
                events.join("\n")
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn put_config_map(&self, name: &str, data: Value) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let params = PatchParams::default();
        match maps.get_opt(name).await.unwrap() {
            Some(_) => {
                let patch = Patch::Merge(&object);
                maps.patch(name, &params, &patch).await.unwrap();
            }
            None => {
                let object = serde_json::from_value(object).unwrap();
                maps.create(&PostParams::default(), &object).await.unwrap();
            }
        }
    }

    pub async fn create_runtime_class(&self, name: &str, handler: &str) {
        let classes: Api<RuntimeClass> = Api::all(self.client.clone());
        let class = json!({"metadata": {"name": name}, "handler": handler});
        let class = serde_json::from_value(class).unwrap();
        classes
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
    }

    pub async fn create_secret(&self, name: &str, data: Value) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), "default");
        let object = json!({"metadata": {"name": name}, "stringData": data});
        let object = serde_json::from_value(object).unwrap();
        secrets
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }
}

pub fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let list = pod["status"]["conditions"].as_array();
    list.and_then(|list| list.iter().find(|condition| condition["type"] == kind))
        .unwrap_or(&NONE)
}

/// Of the first container.
pub fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]
}

//! An API server over a real etcd, with a scheduler as its client.

use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

const PODS: &str = "/api/v1/namespaces/default/pods";
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    client: kube::Client,
    _etcd: Etcd,
    _api: ApiServer,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let etcd = Etcd::start().await;
        let api = ApiServer::start(&etcd, Parts::default()).await;
        let scheduler = api.client("system:kube-scheduler", &[]);
        tokio::spawn(vetch_scheduler::run(scheduler, api.stop.clone()));
        Cluster {
            client: api.client("admin", &[]),
            _etcd: etcd,
            _api: api,
        }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut request = Request::builder().method(method).uri(path);
        if method == "PATCH" {
            request = request.header("content-type", "application/merge-patch+json");
        }
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let request = Request::get(path).body(Vec::new()).unwrap();
        self.client.request(request).await.unwrap()
    }

    /// A node that is ready, with this much cpu.
    pub async fn node(&self, name: &str, cpu: &str) {
        let node = json!({"kind": "Node", "apiVersion": "v1", "metadata": {
            "name": name, "labels": {"kubernetes.io/hostname": name},
        }});
        self.call("POST", "/api/v1/nodes", &node).await;
        let status = json!({"status": {
            "allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "200"},
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.call("PATCH", &format!("/api/v1/nodes/{name}/status"), &status)
            .await;
    }

    pub async fn create(&self, pod: &Value) {
        self.call("POST", PODS, pod).await;
    }

    pub async fn delete(&self, pod: &str) {
        let now = json!({"gracePeriodSeconds": 0});
        self.call("DELETE", &format!("{PODS}/{pod}"), &now).await;
    }

    /// Takes the finalizers off a pod that is being deleted, and its grace with them.
    pub async fn release(&self, pod: &str) {
        let none = json!({"metadata": {"finalizers": null}});
        self.call("PATCH", &format!("{PODS}/{pod}"), &none).await;
        self.delete(pod).await;
    }

    pub async fn pods(&self) -> Vec<Value> {
        let list = self.get(PODS).await;
        list["items"].as_array().cloned().unwrap_or_default()
    }

    pub async fn eventually(&self, holds: impl Fn(&[Value]) -> bool) {
        let limit = Instant::now() + PATIENCE;
        loop {
            let pods = self.pods().await;
            if holds(&pods) {
                return;
            }
            assert!(Instant::now() < limit, "never held: {pods:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The pod as soon as this holds of it.
    pub async fn wait(&self, pod: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let found = self.get(&format!("{PODS}/{pod}")).await;
            if holds(&found) {
                return found;
            }
            assert!(Instant::now() < limit, "never held: {found:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn event(&self, pod: &str, reason: &str) -> Value {
        self.event_that(pod, reason, |_| true).await
    }

    pub async fn event_that(
        &self,
        pod: &str,
        reason: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let limit = Instant::now() + PATIENCE;
        loop {
            let events = self.get("/api/v1/namespaces/default/events").await;
            let mut items = events["items"].as_array().into_iter().flatten();
            let found = items.find(|event| {
                event["involvedObject"]["name"] == pod && event["reason"] == reason && holds(event)
            });
            if let Some(found) = found {
                return found.clone();
            }
            assert!(Instant::now() < limit, "no {reason} among {events:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub fn pod(name: &str, cpu: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]},
    })
}

/// One of a ReplicaSet's.
pub fn owned(mut pod: Value) -> Value {
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "web", "controller": true},
    ]);
    pod
}

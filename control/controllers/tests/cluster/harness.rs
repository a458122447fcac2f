//! A control plane in process, and nodes that only say what nodes say.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vetch_controllers::{ControllersConfig, NodeMasks};
use vetch_server::Server;
use vetch_server::admission::{Admission, Attributes, Effects, Operation};
use vetch_server::status::Status;
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

pub const NAMESPACE: &str = "default";
/// Longer than anything here takes, on a machine that does other things, too.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub client: Client,
    pub stop: CancellationToken,
    pub etcd: Etcd,
    _api: ApiServer,
}

/// Nothing new in a namespace that is being deleted.
struct NamespaceLifecycle;

impl Admission for NamespaceLifecycle {
    fn admit<'a>(
        &'a self,
        server: &'a Server,
        attributes: &'a Attributes<'a>,
        _: &'a mut Value,
    ) -> BoxFuture<'a, Result<Effects, Status>> {
        Box::pin(async move {
            let namespace = attributes.namespace.unwrap_or_default();
            let found = server.find("", "namespaces", None, namespace).await?;
            let ends =
                found.is_some_and(|found| !found.value["metadata"]["deletionTimestamp"].is_null());
            if attributes.operation != Operation::Create || !ends {
                return Ok(Effects::default());
            }
            let message = format!("namespace {namespace} is being terminated");
            let cause = json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"});
            Err(Status {
                details: Some(json!({"causes": [cause]})),
                ..Status::forbidden(attributes.resource, attributes.name, &message)
            })
        })
    }
}

pub fn config() -> ControllersConfig {
    ControllersConfig {
        pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
        node_masks: NodeMasks::default(),
        root_ca_pem: "PEM".into(),
        node_monitor_grace_period: Duration::from_secs(40),
        load_balancer_pool: Vec::new(),
        signer: signer(),
        host_path_volumes: "/var/lib/vetch/volumes".into(),
    }
}

/// Of an authority that is gone when this returns, but for its signer.
fn signer() -> vetch_identity::Signer {
    let directory = tempfile::tempdir().unwrap();
    vetch_identity::Pki::open(directory.path())
        .unwrap()
        .signer()
}

/// An API server without controllers.
pub async fn server() -> Cluster {
    let etcd = Etcd::start().await;
    let parts = Parts {
        admission: vec![Arc::new(NamespaceLifecycle)],
        ..Parts::default()
    };
    let api = ApiServer::start(&etcd, parts).await;
    Cluster {
        client: api.client("system:kube-controller-manager", &[]),
        stop: api.stop.clone(),
        etcd,
        _api: api,
    }
}

pub async fn cluster(config: ControllersConfig) -> Cluster {
    let cluster = server().await;
    cluster.start_controllers(config);
    cluster
}

impl Cluster {
    pub fn start_controllers(&self, config: ControllersConfig) {
        let (client, stop) = (self.client.clone(), self.stop.clone());
        tokio::spawn(async move {
            vetch_controllers::run(client, config, stop).await.unwrap();
        });
    }

    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// A pod or other object of the default namespace, from its JSON.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        create(&self.api(NAMESPACE), object).await
    }

    pub async fn deploy(&self, name: &str, replicas: i32, pod: Value) -> Deployment {
        self.create(deployment(name, replicas, pod)).await
    }

    pub async fn serve(&self, name: &str) -> Service {
        let service = json!({
            "metadata": {"name": name},
            "spec": {"clusterIP": "10.96.0.10", "ipFamilies": ["IPv4"], "selector": {"app": name},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        });
        self.create(service).await
    }

    pub async fn pods(&self, namespace: &str, app: &str) -> Vec<Pod> {
        let parameters = ListParams::default().labels(&format!("app={app}"));
        self.api(namespace).list(&parameters).await.unwrap().items
    }

    /// A pod that no node ends: what waits for it waits.
    pub async fn stuck_pod(&self, namespace: &str, fields: Value) -> Pod {
        let mut pod = json!({
            "metadata": fields,
            "spec": {"nodeName": "nowhere", "containers": [{"name": "c", "image": "i"}]},
        });
        pod["metadata"]["name"] = "stuck".into();
        create(&self.api(namespace), pod).await
    }

    pub async fn end_stuck_pod(&self, namespace: &str) {
        let api: Api<Pod> = self.api(namespace);
        let now = DeleteParams::default().grace_period(0);
        api.delete("stuck", &now).await.unwrap();
    }
}

pub async fn create<K>(api: &Api<K>, object: Value) -> K
where
    K: Clone + DeserializeOwned + Serialize + Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

pub async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> K
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap()
}

pub fn deployment(name: &str, replicas: i32, pod: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080}]}]});
    if let Some(fields) = pod.as_object() {
        for (field, value) in fields {
            spec[field] = value.clone();
        }
    }
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// Waits until `look` has an answer; what it saw last is told when it never has.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) if tokio::time::Instant::now() > deadline => panic!("{what}: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

pub fn check(holds: bool, seen: impl Debug) -> Result<(), String> {
    match holds {
        true => Ok(()),
        false => Err(format!("{seen:?}")),
    }
}

pub async fn eventually_gone<K>(api: &Api<K>, name: &str)
where
    K: Clone + DeserializeOwned + Debug,
{
    let what = format!("{name} goes");
    eventually(&what, async || {
        let left = api.get_opt(name).await.unwrap();
        check(left.is_none(), left)
    })
    .await;
}

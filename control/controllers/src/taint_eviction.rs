//! Pods leave nodes whose NoExecute taints they do not tolerate, or no longer.

mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use self::plan::{Patience, patience};
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder, whole_seconds};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, name_of};
use crate::node::{NO_EXECUTE, taints};
use crate::pod;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// A pod whose time runs, since when. By the clock of this process: a control plane that comes back
/// gives nodes the time to say that they are well.
struct Running {
    uid: Option<String>,
    since: Instant,
}

pub struct TaintEviction {
    client: Client,
    events: Recorder,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    running: Mutex<HashMap<ObjectKey, Running>>,
}

impl TaintEviction {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> TaintEviction {
        let keys = queue.clone();
        informers.pods.listen(move |change: &Change<Pod>| {
            let facets = |pod: &Arc<Pod>| {
                let node = pod::node_name(pod).map(str::to_owned);
                (node, tolerations(pod).to_vec(), is_deleted(pod.as_ref()))
            };
            if let Some(pod) = change.latest()
                && pod::node_name(pod).is_some()
                && change.old.as_ref().map(facets) != change.new.as_ref().map(facets)
            {
                keys.add(ObjectKey::of(pod.as_ref()));
            }
        });
        let (keys, pods) = (queue.clone(), informers.pods.clone());
        informers.nodes.listen(move |change: &Change<Node>| {
            let taints = |node: &Option<Arc<Node>>| -> Vec<Taint> {
                node.as_ref()
                    .map(|node| no_execute(node).cloned().collect())
                    .unwrap_or_default()
            };
            let Some(node) = change.latest() else { return };
            if taints(&change.old) == taints(&change.new) {
                return;
            }
            for pod in pods.all() {
                if pod::node_name(&pod) == Some(name_of(node.as_ref())) {
                    keys.add(ObjectKey::of(pod.as_ref()));
                }
            }
        });
        TaintEviction {
            client,
            events: events.of("taint-eviction-controller"),
            nodes: informers.nodes.clone(),
            pods: informers.pods.clone(),
            running: Mutex::default(),
        }
    }
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    taints(node)
        .iter()
        .filter(|taint| taint.effect == NO_EXECUTE)
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default()
}

impl Reconcile for TaintEviction {
    type Key = ObjectKey;

    const NAME: &'static str = "taint-eviction";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let pod = self.pods.get(key).filter(|pod| !is_deleted(pod.as_ref()));
        let Some(pod) = pod else {
            self.stop(key);
            return Ok(Next::OnChange);
        };
        let node = pod::node_name(&pod).and_then(|name| self.nodes.get(&ObjectKey::new("", name)));
        let patience = match &node {
            Some(node) => patience(no_execute(node), tolerations(&pod)),
            None => Patience::Forever,
        };
        match patience {
            Patience::Forever => {
                if self.stop(key) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.events
                        .record(pod.as_ref(), Note::normal("TaintManagerEviction", message));
                }
                Ok(Next::OnChange)
            }
            Patience::For(patience) => {
                let waited = self.waited(key, &pod, patience);
                if waited < patience {
                    return Ok(Next::After(patience - waited + Duration::from_millis(1)));
                }
                self.evict(key, &pod).await?;
                Ok(Next::OnChange)
            }
        }
    }
}

impl TaintEviction {
    fn running<T>(&self, f: impl FnOnce(&mut HashMap<ObjectKey, Running>) -> T) -> T {
        f(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long the pod's time runs already.
    fn waited(&self, key: &ObjectKey, pod: &Pod, patience: Duration) -> Duration {
        let now = Instant::now();
        self.running(|all| {
            let known = all
                .get(key)
                .filter(|known| known.uid == pod.metadata.uid)
                .map(|known| known.since);
            if known.is_none() && !patience.is_zero() {
                let started = Running {
                    uid: pod.metadata.uid.clone(),
                    since: now,
                };
                all.insert(key.clone(), started);
            }
            known.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        })
    }

    /// Whether the pod's time was running.
    fn stop(&self, key: &ObjectKey) -> bool {
        self.running(|all| all.remove(key)).is_some()
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<()> {
        let message = format!("Marking for deletion Pod {key}");
        self.events
            .record(pod, Note::normal("TaintManagerEviction", message));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "lastTransitionTime": Time(whole_seconds(Timestamp::now())),
                "observedGeneration": pod.metadata.generation,
            }]},
        });
        let patch = Patch::Strategic(patch);
        let marked = api
            .patch_status(&key.name, &PatchParams::default(), &patch)
            .await;
        if found(marked)
            .during(|| format!("mark pod {key} for eviction"))?
            .is_none()
        {
            return Ok(());
        }
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(preconditions);
        found(api.delete(&key.name, &parameters).await).during(|| format!("delete pod {key}"))?;
        Ok(())
    }
}

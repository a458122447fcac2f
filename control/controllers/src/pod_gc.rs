//! Pods that nobody else removes: of nodes that are gone, ended ones beyond a number, deleted ones
//! that were never on a node or whose node is out of service.

mod plan;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;

use self::plan::{Observed, Why, plan};
use crate::error::{Attempt as _, Result, found};
use crate::events::whole_seconds;
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, name_of, namespace_of};
use crate::pod;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// kube-controller-manager's --terminated-pod-gc-threshold.
const TERMINATED: usize = 12_500;
/// A node that is missing may be registering anew.
const QUARANTINE: Duration = Duration::from_secs(40);
const AT_ONCE: usize = 16;

/// There is one thing to do: look at all pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sweep;

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all pods")
    }
}

pub struct PodGc {
    client: Client,
    pods: Arc<Informer<Pod>>,
    nodes: Arc<Informer<Node>>,
    /// Nodes that pods name and that do not exist, since when.
    missing: Mutex<HashMap<String, Instant>>,
}

impl PodGc {
    pub fn new(client: Client, informers: &Informers, queue: &Arc<Queue<Sweep>>) -> PodGc {
        let (sweeps, nodes) = (queue.clone(), informers.nodes.clone());
        let ended = AtomicIsize::new(0);
        informers.pods.listen(move |change: &Change<Pod>| {
            let count = |pod: &Option<Arc<Pod>>| {
                isize::from(pod.as_ref().is_some_and(|pod| pod::is_terminal(pod)))
            };
            let (was, is) = (count(&change.old), count(&change.new));
            ended.fetch_add(is, Ordering::Relaxed);
            let now = ended.fetch_sub(was, Ordering::Relaxed) - was;
            let suspect = |pod: &Pod| match pod::node_name(pod) {
                None => is_deleted(pod),
                Some(node) => match nodes.get(&ObjectKey::new("", node)) {
                    None => true,
                    Some(node) => is_deleted(pod) && plan::is_out_of_service(&node),
                },
            };
            if (is > was && usize::try_from(now).is_ok_and(|now| now > TERMINATED))
                || change.new.as_ref().is_some_and(|pod| suspect(pod))
            {
                sweeps.add(Sweep);
            }
        });
        let sweeps = queue.clone();
        informers.nodes.listen(move |change: &Change<Node>| {
            let out = |node: &Option<Arc<Node>>| {
                node.as_ref()
                    .is_some_and(|node| plan::is_out_of_service(node))
            };
            if change.new.is_none() || (out(&change.new) && !out(&change.old)) {
                sweeps.add(Sweep);
            }
        });
        PodGc {
            client,
            pods: informers.pods.clone(),
            nodes: informers.nodes.clone(),
            missing: Mutex::default(),
        }
    }
}

impl Reconcile for PodGc {
    type Key = Sweep;

    const NAME: &'static str = "podgc";
    const WORKERS: usize = 1;

    async fn reconcile(&self, _: &Sweep) -> Result<Next> {
        let planned = {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            let observed = Observed {
                pods: self.pods.all(),
                node: &|name| self.nodes.get(&ObjectKey::new("", name)),
                missing: &mut missing,
                quarantine: QUARANTINE,
                terminated: TERMINATED,
                now: Instant::now(),
            };
            plan(observed)
        };
        let mut absent = HashMap::new();
        for node in &planned.verify {
            absent.insert(node.clone(), self.is_absent(node).await?);
        }
        let doomed = planned.delete.into_iter().filter(|(pod, why)| {
            let node = pod::node_name(pod).unwrap_or_default();
            *why != Why::NoNode || absent.get(node) == Some(&true)
        });
        let outcomes: Vec<Result<()>> =
            stream::iter(doomed.map(|(pod, why)| self.delete(pod, why)))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
        outcomes.into_iter().collect::<Result<()>>()?;
        Ok(Next::OnChange.at_most(planned.again))
    }
}

impl PodGc {
    /// Asked of the server: a watch that is behind must not cost a pod.
    async fn is_absent(&self, node: &str) -> Result<bool> {
        let api: Api<Node> = Api::all(self.client.clone());
        let read = api.get_metadata_opt(node).await;
        Ok(read.during(|| format!("read node {node}"))?.is_none())
    }

    async fn delete(&self, pod: Arc<Pod>, why: Why) -> Result<()> {
        let pod = pod.as_ref();
        let (name, key) = (name_of(pod), ObjectKey::of(pod));
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace_of(pod));
        if !pod::is_terminal(pod) {
            let mut status = json!({"phase": "Failed"});
            if let Some(message) = why.disruption() {
                status["conditions"] = json!([{
                    "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": message, "lastTransitionTime": Time(whole_seconds(Timestamp::now())),
                    "observedGeneration": pod.metadata.generation,
                }]);
            }
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
            let patched = api
                .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await;
            found(patched).during(|| format!("mark pod {key} failed"))?;
        }
        let preconditions = Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(preconditions);
        found(api.delete(name, &parameters).await).during(|| format!("delete pod {key}"))?;
        Ok(())
    }
}

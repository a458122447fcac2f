//! Disruption budgets: how many pods of a budget may be evicted now.
//!
//! Input: budgets, pods, and what says how many pods there should be. Output: the budget's status, which pods/eviction
//! takes from.

mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PostParams;
use kube::core::Selector;
use kube::{Api, Client};

use self::plan::{Expected, observe};
use crate::error::{Attempt as _, Result};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, controller_of, namespace_of, uid_of};
use crate::ownership::{selector, selects};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct DisruptionController {
    client: Client,
    budgets: Arc<Informer<PodDisruptionBudget>>,
    pods: Arc<Informer<Pod>>,
    replica_sets: Arc<Informer<ReplicaSet>>,
    deployments: Arc<Informer<Deployment>>,
}

impl DisruptionController {
    pub fn new(
        client: Client,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> DisruptionController {
        let keys = queue.clone();
        informers
            .disruption_budgets
            .listen(move |change: &Change<PodDisruptionBudget>| {
                if let Some(budget) = &change.new {
                    keys.add(ObjectKey::of(budget.as_ref()));
                }
            });
        let (keys, budgets) = (queue.clone(), informers.disruption_budgets.clone());
        informers.pods.listen(move |change: &Change<Pod>| {
            let Some(pod) = change.latest() else { return };
            for budget in budgets.select(namespace_of(pod.as_ref()), |_| true) {
                let own = terms(&budget).ok().flatten();
                let covers = |pod: &Arc<Pod>| {
                    let labels = pod.metadata.labels.as_ref();
                    own.as_ref().is_some_and(|own| selects(own, labels))
                };
                if change.each().any(covers) {
                    keys.add(ObjectKey::of(budget.as_ref()));
                }
            }
        });
        // How many there should be is a rare change: all budgets of the namespace are looked at.
        macro_rules! scaled {
            ($informer:ident: $kind:ty) => {{
                let (keys, budgets) = (queue.clone(), informers.disruption_budgets.clone());
                informers.$informer.listen(move |change: &Change<$kind>| {
                    let replicas = |object: &Option<Arc<$kind>>| {
                        object
                            .as_ref()
                            .map(|own| own.spec.as_ref().and_then(|spec| spec.replicas))
                    };
                    let Some(object) = change
                        .latest()
                        .filter(|_| replicas(&change.old) != replicas(&change.new))
                    else {
                        return;
                    };
                    for budget in budgets.select(namespace_of(object.as_ref()), |_| true) {
                        keys.add(ObjectKey::of(budget.as_ref()));
                    }
                });
            }};
        }
        scaled!(replica_sets: ReplicaSet);
        scaled!(deployments: Deployment);
        DisruptionController {
            client,
            budgets: informers.disruption_budgets.clone(),
            pods: informers.pods.clone(),
            replica_sets: informers.replica_sets.clone(),
            deployments: informers.deployments.clone(),
        }
    }

    /// Who wants the pod to be there, and how many like it. `None`: nobody does. `Err`: somebody this does not know.
    fn expected(&self, pod: &Pod) -> Result<Option<Expected>, String> {
        let Some(owner) = controller_of(pod) else {
            return Ok(None);
        };
        let unknown = || {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            format!("found no controllers for pod {name:?}")
        };
        let namespace = namespace_of(pod);
        if !(owner.kind == "ReplicaSet" && owner.api_version == "apps/v1") {
            return Err(unknown());
        }
        let set = self
            .replica_sets
            .get(&ObjectKey::new(namespace, &owner.name))
            .filter(|set| uid_of(set.as_ref()) == owner.uid)
            .ok_or_else(unknown)?;
        if let Some(owner) = controller_of(set.as_ref()).filter(|owner| owner.kind == "Deployment")
            && let Some(deployment) = self
                .deployments
                .get(&ObjectKey::new(namespace, &owner.name))
                .filter(|own| uid_of(own.as_ref()) == owner.uid)
        {
            let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            return Ok(Some((
                uid_of(deployment.as_ref()).to_owned(),
                replicas.unwrap_or(1),
            )));
        }
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        Ok(Some((
            uid_of(set.as_ref()).to_owned(),
            replicas.unwrap_or(1),
        )))
    }
}

/// `None`: it selects nothing.
fn terms(budget: &PodDisruptionBudget) -> Result<Option<Selector>> {
    let own = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    own.map(|own| selector(&ObjectKey::of(budget), own))
        .transpose()
}

impl Reconcile for DisruptionController {
    type Key = ObjectKey;

    const NAME: &'static str = "disruption";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(budget) = self.budgets.get(key) else {
            return Ok(Next::OnChange);
        };
        let pods = match terms(&budget)? {
            Some(own) => self.pods.select(&key.namespace, |pod| {
                selects(&own, pod.metadata.labels.as_ref())
            }),
            None => Vec::new(),
        };
        let now = Timestamp::now();
        let (status, again) = observe(&budget, &pods, &|pod| self.expected(pod), now);
        if budget.status.as_ref() != Some(&status) {
            let wanted = PodDisruptionBudget {
                status: Some(status),
                ..budget.as_ref().clone()
            };
            let api: Api<PodDisruptionBudget> =
                Api::namespaced(self.client.clone(), &key.namespace);
            let written = api
                .replace_status(&key.name, &PostParams::default(), &wanted)
                .await;
            written.during(|| format!("write the status of budget {key}"))?;
        }
        Ok(Next::OnChange.at_most(again))
    }
}

//! Deployments: rollouts over ReplicaSets.

mod revision;
mod rollout;
mod status;
pub mod strategy;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use self::revision::{REVISION, is_made_by};
use self::rollout::{Observed, Plan, Step, plan};
use crate::error::{Attempt as _, Error, Result, found, is_already_exists};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, controller_of, is_deleted, name_of, namespace_of, uid_of};
use crate::ownership::{claim_all, is_empty, selector, selects};
use crate::pod;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct DeploymentController {
    client: Client,
    events: Recorder,
    deployments: Arc<Informer<Deployment>>,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
}

impl DeploymentController {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> DeploymentController {
        let keys = queue.clone();
        informers
            .deployments
            .listen(move |change: &Change<Deployment>| {
                if let Some(deployment) = change.latest() {
                    keys.add(ObjectKey::of(deployment.as_ref()));
                }
            });
        let (keys, deployments) = (queue.clone(), informers.deployments.clone());
        informers
            .replica_sets
            .listen(move |change: &Change<ReplicaSet>| set_changed(change, &deployments, &keys));
        let (keys, sets) = (queue.clone(), informers.replica_sets.clone());
        informers.pods.listen(move |change: &Change<Pod>| {
            // Recreate waits for the last old pod to end.
            let ended = change.new.as_ref().is_none_or(|pod| pod::is_terminal(pod));
            if let Some(key) = change
                .latest()
                .filter(|_| ended)
                .and_then(|pod| deployment_of(pod, &sets))
            {
                keys.add(key);
            }
        });
        DeploymentController {
            client,
            events: events.of("deployment-controller"),
            deployments: informers.deployments.clone(),
            sets: informers.replica_sets.clone(),
            pods: informers.pods.clone(),
        }
    }
}

fn owner_key(set: &ReplicaSet) -> Option<ObjectKey> {
    let owner = controller_of(set).filter(|owner| owner.kind == "Deployment")?;
    Some(ObjectKey::new(namespace_of(set), &owner.name))
}

fn deployment_of(pod: &Pod, sets: &Informer<ReplicaSet>) -> Option<ObjectKey> {
    let owner = controller_of(pod).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = sets.get(&ObjectKey::new(namespace_of(pod), &owner.name))?;
    owner_key(&set)
}

fn set_changed(
    change: &Change<ReplicaSet>,
    deployments: &Informer<Deployment>,
    queue: &Queue<ObjectKey>,
) {
    change
        .each()
        .filter_map(|set| owner_key(set))
        .for_each(|key| queue.add(key));
    if let Some(set) = &change.new
        && controller_of(set.as_ref()).is_none()
        && !is_deleted(set.as_ref())
    {
        let labels = set.metadata.labels.as_ref();
        let matching = deployments.select(namespace_of(set.as_ref()), |deployment| {
            let own = deployment
                .spec
                .as_ref()
                .map(|spec| &spec.selector)
                .filter(|own| !is_empty(own));
            own.is_some_and(|own| {
                selector(&name_of(deployment), own).is_ok_and(|own| selects(&own, labels))
            })
        });
        for deployment in matching {
            queue.add(ObjectKey::of(deployment.as_ref()));
        }
    }
}

impl Reconcile for DeploymentController {
    type Key = ObjectKey;

    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(Next::OnChange);
        };
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let own = deployment
            .spec
            .as_ref()
            .map(|spec| spec.selector.clone())
            .unwrap_or_default();
        if is_empty(&own) {
            let message =
                "This deployment is selecting all pods. A non-empty selector is required.";
            self.events.record(
                deployment.as_ref(),
                Note::warning("SelectingAll", message.into()),
            );
            return Ok(Next::OnChange);
        }
        let selector = selector(key, &own)?;
        let candidates = self
            .sets
            .select(&key.namespace, |set| match controller_of(set) {
                Some(owner) => owner.uid == uid_of(deployment.as_ref()),
                None => selects(&selector, set.metadata.labels.as_ref()),
            });
        let owned = claim_all(&api, deployment.as_ref(), &sets, candidates, &selector).await?;
        let owners: HashSet<&str> = owned.iter().map(|set| uid_of(set.as_ref())).collect();
        let running = self.pods.select(&key.namespace, |pod| {
            !pod::is_terminal(pod)
                && controller_of(pod).is_some_and(|owner| owners.contains(owner.uid.as_str()))
        });
        let running = running
            .iter()
            .filter_map(|pod| controller_of(pod.as_ref()))
            .map(|owner| owner.uid.clone())
            .collect();
        let plan = plan(Observed {
            deployment: &deployment,
            sets: owned.iter().map(|set| set.as_ref().clone()).collect(),
            running,
            now: Timestamp::now(),
        });
        self.act(&api, &sets, &deployment, plan).await
    }
}

impl DeploymentController {
    async fn act(
        &self,
        api: &Api<Deployment>,
        sets: &Api<ReplicaSet>,
        deployment: &Deployment,
        plan: Plan,
    ) -> Result<Next> {
        let mut status = plan.status;
        if let Some(step) = plan.create
            && let Err(error) = self.create(sets, deployment, &step).await
        {
            // In a namespace that goes away there is nothing left to do.
            if error.is_namespace_terminating() {
                return Ok(Next::OnChange);
            }
            if matches!(error, Error::Incomplete(_)) {
                // The name is somebody else's: the next try hashes to another.
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            } else {
                let conditions = status.conditions.get_or_insert_default();
                let failed = status::condition(
                    "Progressing",
                    "False",
                    "ReplicaSetCreateError",
                    error.words(),
                    Timestamp::now(),
                );
                status::set(conditions, failed);
            }
            self.write_status(api, deployment, status).await?;
            return Err(error);
        }
        for step in plan.update {
            let key = ObjectKey::of(&step.set);
            let written = sets
                .replace(&key.name, &PostParams::default(), &step.set)
                .await;
            written.during(|| format!("update ReplicaSet {key}"))?;
            if let Some(note) = step.note {
                self.events.record(deployment, note);
            }
        }
        for set in plan.delete {
            let preconditions = Preconditions {
                uid: set.metadata.uid.clone(),
                resource_version: set.metadata.resource_version.clone(),
            };
            let parameters = DeleteParams::default().preconditions(preconditions);
            let key = ObjectKey::of(&set);
            found(sets.delete(&key.name, &parameters).await)
                .during(|| format!("delete ReplicaSet {key}"))?;
        }
        // The status is written onto what the revision made of the deployment: a status carries the
        // annotations it was read with.
        let patched = match plan.revision {
            Some(revision) => Some(self.write_revision(api, deployment, revision).await?),
            None => None,
        };
        let current = patched.as_ref().unwrap_or(deployment);
        self.write_status(api, current, status).await?;
        Ok(Next::OnChange.at_most(plan.again.map(pod::delay)))
    }

    async fn create(
        &self,
        sets: &Api<ReplicaSet>,
        deployment: &Deployment,
        step: &Step,
    ) -> Result<()> {
        let key = ObjectKey::of(&step.set);
        match sets.create(&PostParams::default(), &step.set).await {
            Ok(_) => {
                if let Some(note) = step.note.clone() {
                    self.events.record(deployment, note);
                }
                Ok(())
            }
            Err(error) if is_already_exists(&error) => {
                let existing = found(sets.get(&key.name).await)
                    .during(|| format!("look up ReplicaSet {key}"))?;
                match existing {
                    // An earlier pass made it; the cache will show it.
                    Some(existing) if is_made_by(deployment, &existing) => Ok(()),
                    _ => Err(Error::Incomplete(format!(
                        "the name of ReplicaSet {key} is taken"
                    ))),
                }
            }
            Err(error) => {
                let error = Err::<(), _>(error).during(|| format!("create ReplicaSet {key}"));
                if let Err(error) = &error
                    && !error.is_namespace_terminating()
                {
                    let message = format!(
                        "Failed to create new replica set {:?}: {}",
                        key.name,
                        error.words()
                    );
                    self.events
                        .record(deployment, Note::warning("ReplicaSetCreateError", message));
                }
                error
            }
        }
    }

    async fn write_revision(
        &self,
        api: &Api<Deployment>,
        deployment: &Deployment,
        revision: String,
    ) -> Result<Deployment> {
        let patch = json!({"metadata": {
            "resourceVersion": deployment.metadata.resource_version,
            "annotations": {REVISION: revision},
        }});
        let patched = api
            .patch(
                name_of(deployment),
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await;
        patched.during(|| format!("write revision of {}", ObjectKey::of(deployment)))
    }

    async fn write_status(
        &self,
        api: &Api<Deployment>,
        deployment: &Deployment,
        status: DeploymentStatus,
    ) -> Result<()> {
        if deployment
            .status
            .as_ref()
            .is_some_and(|old| same(old, &status))
        {
            return Ok(());
        }
        let mut wanted = deployment.clone();
        wanted.status = Some(status);
        let written = found(
            api.replace_status(name_of(deployment), &PostParams::default(), &wanted)
                .await,
        );
        written.during(|| format!("write status of {}", ObjectKey::of(deployment)))?;
        Ok(())
    }
}

/// None and zero are the same count.
fn same(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let counts = |status: &DeploymentStatus| {
        [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
            status.terminating_replicas,
            status.collision_count,
        ]
        .map(|count| count.unwrap_or(0))
    };
    counts(old) == counts(new)
        && old.observed_generation == new.observed_generation
        && old.conditions == new.conditions
}

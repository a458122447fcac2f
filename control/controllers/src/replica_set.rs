//! ReplicaSets: as many pods of a template as wanted.

mod plan;
mod rank;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use self::plan::{Plan, batches, plan, pod_from_template, status};
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, controller_of, is_deleted, name_of, namespace_of, uid_of};
use crate::ownership::{claim_all, selector, selects};
use crate::pending::Pending;
use crate::pod;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub struct ReplicaSetController {
    client: Client,
    events: Recorder,
    sets: Arc<Informer<ReplicaSet>>,
    pods: Arc<Informer<Pod>>,
    pending: Arc<Pending>,
}

impl ReplicaSetController {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> ReplicaSetController {
        let pending = Arc::new(Pending::default());
        let keys = queue.clone();
        informers
            .replica_sets
            .listen(move |change: &Change<ReplicaSet>| {
                if let Some(set) = change.latest() {
                    keys.add(ObjectKey::of(set.as_ref()));
                }
            });
        let (keys, sets, seen) = (
            queue.clone(),
            informers.replica_sets.clone(),
            pending.clone(),
        );
        informers
            .pods
            .listen(move |change: &Change<Pod>| pod_changed(change, &sets, &seen, &keys));
        ReplicaSetController {
            client,
            events: events.of("replicaset-controller"),
            sets: informers.replica_sets.clone(),
            pods: informers.pods.clone(),
            pending,
        }
    }
}

/// The key of the set that a pod names as its controller.
fn owner_key(pod: &Pod) -> Option<ObjectKey> {
    let owner = controller_of(pod).filter(|owner| owner.kind == "ReplicaSet")?;
    Some(ObjectKey::new(namespace_of(pod), &owner.name))
}

fn pod_changed(
    change: &Change<Pod>,
    sets: &Informer<ReplicaSet>,
    pending: &Pending,
    queue: &Queue<ObjectKey>,
) {
    for pod in change.each() {
        if let Some(key) = owner_key(pod) {
            if change
                .new
                .as_ref()
                .is_none_or(|pod| is_deleted(pod.as_ref()))
            {
                pending.saw_deletion(&key, uid_of(pod.as_ref()));
            }
            queue.add(key);
        }
    }
    // An orphan may be somebody's.
    if let Some(pod) = &change.new
        && controller_of(pod.as_ref()).is_none()
        && !is_deleted(pod.as_ref())
    {
        let labels = pod.metadata.labels.as_ref();
        let matching = sets.select(namespace_of(pod.as_ref()), |set| {
            let wanted = set.spec.as_ref().map(|spec| &spec.selector);
            wanted.is_some_and(|own| {
                selector(&name_of(set), own).is_ok_and(|own| selects(&own, labels))
            })
        });
        for set in matching {
            queue.add(ObjectKey::of(set.as_ref()));
        }
    }
}

impl Reconcile for ReplicaSetController {
    type Key = ObjectKey;

    const NAME: &'static str = "replicaset";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(set) = self.sets.get(key) else {
            self.pending.forget(key);
            return Ok(Next::OnChange);
        };
        if !self
            .pending
            .is_visible(key, |mark| self.pods.has_passed(mark))
        {
            // The pod's own event brings the key back; a new list does not.
            return Ok(Next::After(std::time::Duration::from_secs(1)));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let sets: Api<ReplicaSet> = Api::namespaced(self.client.clone(), &key.namespace);
        let wanted = set
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        let selector = selector(
            key,
            set.spec
                .as_ref()
                .map(|spec| &spec.selector)
                .unwrap_or(&Default::default()),
        )?;
        let candidates = self
            .pods
            .select(&key.namespace, |pod| match controller_of(pod) {
                Some(owner) => owner.uid == uid_of(set.as_ref()),
                None => selects(&selector, pod.metadata.labels.as_ref()),
            });
        let mut owned = claim_all(&sets, set.as_ref(), &pods, candidates, &selector).await?;
        owned.retain(|pod| !self.pending.is_deleted(key, uid_of(pod.as_ref())));

        let mut failure = None;
        if !is_deleted(set.as_ref()) {
            let active: Vec<Arc<Pod>> = owned
                .iter()
                .filter(|pod| pod::is_active(pod))
                .cloned()
                .collect();
            let related = match active.len() > usize::try_from(wanted).unwrap_or(0) {
                true => self.related(&set),
                false => Vec::new(),
            };
            let done = match plan(wanted, active, &related) {
                Plan::Nothing => Ok(()),
                Plan::Create(count) => self
                    .create(key, &set, &pods, count)
                    .await
                    .map_err(|error| ("FailedCreate", error)),
                Plan::Delete(surplus) => self
                    .delete(key, &set, &pods, surplus)
                    .await
                    .map_err(|error| ("FailedDelete", error)),
            };
            failure = done.err();
        }
        let words = failure
            .as_ref()
            .map(|(reason, error)| (*reason, error.words()));
        let (status, soonest) = status(&set, &owned, words, Timestamp::now());
        self.write_status(&sets, &set, status).await?;
        match failure {
            Some((_, error)) if !error.is_namespace_terminating() => Err(error),
            _ => Ok(Next::OnChange.at_most(soonest.map(pod::delay))),
        }
    }
}

impl ReplicaSetController {
    /// Pods of every set with the same owner as this one.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(set) else {
            return self.pods.select(namespace_of(set), |pod| {
                controller_of(pod).is_some_and(|own| own.uid == uid_of(set))
            });
        };
        let siblings = self.sets.select(namespace_of(set), |other| {
            controller_of(other).is_some_and(|own| own.uid == owner.uid)
        });
        self.pods.select(namespace_of(set), |pod| {
            controller_of(pod).is_some_and(|own| {
                siblings
                    .iter()
                    .any(|sibling| uid_of(sibling.as_ref()) == own.uid)
            })
        })
    }

    async fn create(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        count: usize,
    ) -> Result<()> {
        let pod = pod_from_template(set);
        let parameters = PostParams::default();
        for batch in batches(count) {
            let attempts = (0..batch).map(|_| pods.create(&parameters, &pod));
            let mut failed = None;
            for outcome in futures::future::join_all(attempts).await {
                match outcome.during(|| format!("create a pod of {key}")) {
                    Ok(created) => {
                        self.pending.written(key, self.pods.mark(&created));
                        let message = format!("Created pod: {}", name_of(&created));
                        self.events
                            .record(set, Note::normal("SuccessfulCreate", message));
                    }
                    Err(error) => {
                        if !error.is_namespace_terminating() {
                            let message = format!("Error creating: {}", error.words());
                            self.events
                                .record(set, Note::warning("FailedCreate", message));
                        }
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        set: &ReplicaSet,
        pods: &Api<Pod>,
        surplus: Vec<Arc<Pod>>,
    ) -> Result<()> {
        let attempts = surplus.iter().map(|pod| async move {
            let uid = uid_of(pod.as_ref()).to_owned();
            // Before the request: the watch may be faster than its answer.
            self.pending.deleted(key, &uid);
            let preconditions = Preconditions {
                uid: Some(uid.clone()),
                resource_version: None,
            };
            let parameters = DeleteParams::default().preconditions(preconditions);
            let outcome = found(pods.delete(name_of(pod.as_ref()), &parameters).await);
            let outcome = outcome.during(|| format!("delete pod {}", ObjectKey::of(pod.as_ref())));
            if !matches!(outcome, Ok(Some(_))) {
                self.pending.saw_deletion(key, &uid);
            }
            (pod, outcome)
        });
        let mut failed = None;
        for (pod, outcome) in futures::future::join_all(attempts).await {
            match outcome {
                Ok(Some(_)) => {
                    let message = format!("Deleted pod: {}", name_of(pod.as_ref()));
                    self.events
                        .record(set, Note::normal("SuccessfulDelete", message));
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Error deleting: {}", error.words());
                    self.events
                        .record(set, Note::warning("FailedDelete", message));
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn write_status(
        &self,
        sets: &Api<ReplicaSet>,
        set: &ReplicaSet,
        status: ReplicaSetStatus,
    ) -> Result<()> {
        if same(set.status.as_ref(), &status) {
            return Ok(());
        }
        let mut wanted = set.clone();
        wanted.status = Some(status);
        let written = found(
            sets.replace_status(name_of(set), &PostParams::default(), &wanted)
                .await,
        );
        written.during(|| format!("write status of {}", ObjectKey::of(set)))?;
        Ok(())
    }
}

/// None and zero are the same count.
fn same(old: Option<&ReplicaSetStatus>, new: &ReplicaSetStatus) -> bool {
    let counts = |status: &ReplicaSetStatus| {
        [
            status.replicas,
            status.fully_labeled_replicas.unwrap_or(0),
            status.ready_replicas.unwrap_or(0),
            status.available_replicas.unwrap_or(0),
            status.terminating_replicas.unwrap_or(0),
        ]
    };
    old.is_some_and(|old| {
        counts(old) == counts(new)
            && old.observed_generation == new.observed_generation
            && old.conditions == new.conditions
    })
}

//! Keeps the mirrors of static pods as they shall be: what the API server has of them comes in by the
//! watch, and each has at most one call under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use tokio::task::JoinSet;

use crate::pods::context::{Context, READ_LIMIT};
use crate::pods::spec;
use crate::pods::static_pods::mirror::{self, Original, Step};
use crate::pods::static_pods::{FullName, full_name};
use crate::pods::text::{api_words, chain};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

pub struct Mirrors {
    context: Arc<Context>,
    /// As the API server has them.
    known: BTreeMap<FullName, Arc<Pod>>,
    calls: JoinSet<Done>,
    busy: BTreeSet<FullName>,
    failed: BTreeMap<FullName, Retry>,
}

struct Retry {
    at: Instant,
    pause: Duration,
}

struct Done {
    name: FullName,
    /// What the server has now, or in words what went wrong.
    result: Result<Option<Pod>, String>,
}

impl Mirrors {
    pub fn new(context: Arc<Context>) -> Mirrors {
        Mirrors {
            context,
            known: BTreeMap::new(),
            calls: JoinSet::new(),
            busy: BTreeSet::new(),
            failed: BTreeMap::new(),
        }
    }

    pub fn get(&self, name: &FullName) -> Option<&Arc<Pod>> {
        self.known.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &FullName> {
        self.known.keys()
    }

    /// Something else may succeed now.
    pub fn set(&mut self, pod: Arc<Pod>) {
        let name = full_name(&pod);
        self.failed.remove(&name);
        self.known.insert(name, pod);
    }

    pub fn remove(&mut self, pod: &Pod) {
        let name = full_name(pod);
        let same = |known: &Arc<Pod>| spec::uid(known) == spec::uid(pod);
        if self.known.get(&name).is_some_and(same) {
            self.failed.remove(&name);
            self.known.remove(&name);
        }
    }

    /// All there are. Returns the names of those that are no more.
    pub fn replace(&mut self, pods: impl Iterator<Item = Arc<Pod>>) -> Vec<FullName> {
        let listed: BTreeMap<FullName, Arc<Pod>> = pods.map(|pod| (full_name(&pod), pod)).collect();
        let gone = self.known.keys().filter(|name| !listed.contains_key(*name));
        let gone = gone.cloned().collect();
        self.known = listed;
        self.failed.clear();
        gone
    }

    /// One mirror's next step, if it is time for one.
    pub fn reconcile(&mut self, name: &FullName, original: Original<'_>) {
        let held = self
            .failed
            .get(name)
            .is_some_and(|retry| Instant::now() < retry.at);
        if held || self.busy.contains(name) {
            return;
        }
        let known = self.known.get(name);
        let name = name.clone();
        let context = self.context.clone();
        match (
            mirror::step(original, known.map(AsRef::as_ref)),
            original,
            known,
        ) {
            (Step::Create, Original::Running(pod), _) => {
                let pod = pod.clone();
                self.busy.insert(name.clone());
                self.calls.spawn(async move {
                    let result = create(&context, &pod).await;
                    Done { name, result }
                });
            }
            (Step::Delete, _, Some(mirror)) => {
                let mirror = mirror.clone();
                self.busy.insert(name.clone());
                self.calls.spawn(async move {
                    let result = delete(&context, &mirror).await.map(|()| None);
                    Done { name, result }
                });
            }
            _ => self.failed.remove(&name).map_or((), drop),
        }
    }

    /// The name of one to look at again: its call is over, or may be tried again. Waits for ever when
    /// there is none.
    pub async fn next(&mut self) -> FullName {
        let soonest = self
            .failed
            .iter()
            .filter(|(_, retry)| retry.at > Instant::now());
        let soonest = soonest.min_by_key(|(_, retry)| retry.at);
        let soonest = soonest.map(|(name, retry)| (name.clone(), retry.at));
        let again = async {
            match soonest {
                Some((name, at)) => {
                    tokio::time::sleep_until(at.into()).await;
                    name
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(done) = self.calls.join_next() => self.take(done),
            name = again => name,
        }
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) -> FullName {
        let Done { name, result } = match done {
            Ok(done) => done,
            // They neither panic nor are they aborted; the name is not known.
            Err(error) => {
                tracing::error!("a call about a mirror died: {error}");
                self.busy.clear();
                return FullName::default();
            }
        };
        self.busy.remove(&name);
        match result {
            Ok(now) => {
                self.failed.remove(&name);
                match now {
                    Some(pod) => {
                        self.known
                            .entry(name.clone())
                            .or_insert_with(|| Arc::new(pod));
                    }
                    None => {
                        self.known.remove(&name);
                    }
                }
            }
            Err(words) => {
                let pause = self
                    .failed
                    .get(&name)
                    .map_or(FIRST_RETRY, |retry| retry.pause);
                tracing::warn!(
                    namespace = name.0,
                    pod = name.1,
                    "mirror of a static pod: {words}"
                );
                let retry = Retry {
                    at: Instant::now() + pause,
                    pause: (pause * 2).min(LAST_RETRY),
                };
                self.failed.insert(name.clone(), retry);
            }
        }
        name
    }
}

async fn create(context: &Context, pod: &Pod) -> Result<Option<Pod>, String> {
    let node = context.node.get(READ_LIMIT).await;
    let node = node.ok_or("this node is not registered yet")?;
    let Some(mirror) = mirror::of(pod, &node) else {
        return Err("this node is being deleted".to_owned());
    };
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), spec::namespace(pod));
    let created = pods.create(&PostParams::default(), &mirror).await;
    created.map(Some).map_err(|error| chain(&error))
}

/// This one, at once: nothing of it runs.
async fn delete(context: &Context, mirror: &Pod) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), spec::namespace(mirror));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: mirror.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match pods.delete(spec::name(mirror), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(api_words(&error)),
    }
}

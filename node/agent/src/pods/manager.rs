//! The pods of this node: a watch of them, a worker for each, and the end of
//! what no pod owns any more.

mod mirrors;
mod orphans;
mod statics;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;
use vetch_runtime::SandboxId;

use super::context::Context;
use super::resize::Allocation;
use super::sentence::Sentence;
use super::spec;
use super::static_pods::{Folder, SOURCE, full_name, is_mirror, is_static};
use super::text::chain;
use super::worker::{Inbox, Update, Worker};
use mirrors::Mirrors;
use statics::{Manifests, parted};

pub struct Manager {
    context: Arc<Context>,
    workers: HashMap<String, Handle>,
    tasks: JoinSet<()>,
    uids: HashMap<Id, String>,
    /// The list that is coming in.
    listing: BTreeMap<String, Arc<Pod>>,
    listed_once: bool,
    orphans: JoinSet<()>,
    manifests: Manifests,
    mirrors: Mirrors,
    sentences: UnboundedReceiver<(String, Sentence)>,
}

struct Handle {
    inbox: Arc<Inbox>,
    pod: Arc<Pod>,
    /// It was told that its pod is no more.
    removed: bool,
    task: AbortHandle,
}

impl Manager {
    pub async fn new(context: Arc<Context>) -> Manager {
        let path = context.config.pod_manifest_path.clone();
        let folder = path.map(|path| Folder::new(path, &context.config.node_name));
        Manager {
            manifests: Manifests::open(folder).await,
            mirrors: Mirrors::new(context.clone()),
            // There is one manager; a second one would hear of none.
            sentences: context.sentences().unwrap_or_else(|| unbounded_channel().1),
            context,
            workers: HashMap::new(),
            tasks: JoinSet::new(),
            uids: HashMap::new(),
            listing: BTreeMap::new(),
            listed_once: false,
            orphans: JoinSet::new(),
        }
    }

    /// Until shutdown: pods run on then, for the next daemon.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let node = format!("spec.nodeName={}", self.context.config.node_name);
        let pods: Api<Pod> = Api::all(self.context.client.clone());
        let config = watcher::Config::default().fields(&node);
        let pods = watcher(pods, config)
            // Half of an object's size, and nothing to us.
            .modify(|pod| {
                pod.metadata.managed_fields = None;
                // Only a file makes a static pod, whatever somebody wrote there.
                if !is_mirror(pod)
                    && let Some(annotations) = &mut pod.metadata.annotations
                {
                    annotations.remove(SOURCE);
                }
            })
            .default_backoff();
        let mut events = std::pin::pin!(pods);
        let mut runtime = self.context.runtime.subscribe();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event).await,
                    Some(Err(error)) => tracing::warn!("watching pods: {}", chain(&error)),
                    // The stream of a watcher has no end.
                    None => return,
                },
                event = runtime.recv() => match event {
                    Ok(event) => self.wake(&event.pod_uid),
                    // Whatever was missed: all look.
                    Err(RecvError::Lagged(_)) => self.wake_all(),
                    Err(RecvError::Closed) => return,
                },
                Some(done) = self.tasks.join_next_with_id() => {
                    let (id, died) = match done {
                        Ok((id, ())) => (id, None),
                        Err(error) => (error.id(), Some(error)),
                    };
                    self.worker_ended(id, died).await;
                }
                Some(_) = self.orphans.join_next() => {}
                () = self.manifests.changed() => self.take_manifests().await,
                Some((uid, sentence)) = self.sentences.recv() => {
                    if let Some(handle) = self.workers.get(&uid) {
                        handle.inbox.sentence(sentence);
                    }
                }
                name = self.mirrors.next() => self.follow_mirror(&name),
            }
        }
    }

    async fn take(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(pod) => {
                self.listing
                    .insert(spec::uid(&pod).to_owned(), Arc::new(pod));
            }
            watcher::Event::InitDone => self.take_list().await,
            watcher::Event::Apply(pod) if is_mirror(&pod) => {
                let name = full_name(&pod);
                self.mirrors.set(Arc::new(pod));
                self.follow_mirror(&name);
            }
            watcher::Event::Delete(pod) if is_mirror(&pod) => {
                self.mirrors.remove(&pod);
                self.follow_mirror(&full_name(&pod));
            }
            watcher::Event::Apply(pod) => self.apply(Arc::new(pod)).await,
            watcher::Event::Delete(pod) => {
                let pod = Arc::new(pod);
                self.remove(spec::uid(&pod), Some(pod.clone()));
            }
        }
    }

    async fn take_list(&mut self) {
        let (mirrors, listed) = parted(std::mem::take(&mut self.listing));
        let gone: Vec<String> = self
            .workers
            .iter()
            .filter(|(uid, handle)| !is_static(&handle.pod) && !listed.contains_key(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.remove(&uid, None);
        }
        // Those that are here already, before others ask for room.
        for pod in listed.values() {
            let begun = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
            if begun && !spec::is_terminal(spec::phase(pod)) {
                let allocated = Allocation::read(&self.context.pod_dir(pod));
                // The worker says what went wrong.
                let allocated = allocated.ok().flatten();
                let granted = allocated.map(|allocated| allocated.applied(pod.clone()));
                self.context.take(&granted.unwrap_or_else(|| pod.clone()));
            }
        }
        let mut uids: BTreeSet<String> = listed.keys().cloned().collect();
        uids.extend(self.static_uids());
        for pod in listed.into_values() {
            self.apply(pod).await;
        }
        if !self.listed_once {
            self.listed_once = true;
            orphans::end(&self.context, &uids, &mut self.orphans).await;
        }
        let lost = self.mirrors.replace(mirrors.into_iter());
        for name in lost {
            self.follow_mirror(&name);
        }
        self.follow_mirrors();
    }

    async fn apply(&mut self, pod: Arc<Pod>) {
        let uid = spec::uid(&pod).to_owned();
        if let Some(handle) = self.workers.get_mut(&uid) {
            handle.pod = pod.clone();
            handle.inbox.put(Update::Present(pod));
            return;
        }
        // Its deletion was missed, if there was one of the same name.
        let replaced = self.workers.iter().find(|(_, handle)| {
            !is_static(&handle.pod)
                && handle.pod.metadata.name == pod.metadata.name
                && handle.pod.metadata.namespace == pod.metadata.namespace
        });
        if let Some(old) = replaced.map(|(uid, _)| uid.clone()) {
            self.remove(&old, None);
        }
        self.begin(uid, pod).await;
    }

    /// A worker for it, with the sandboxes the runtime has of it.
    async fn begin(&mut self, uid: String, pod: Arc<Pod>) {
        let sandboxes: BTreeSet<SandboxId> = self
            .context
            .runtime
            .list()
            .await
            .into_iter()
            .filter(|sandbox| sandbox.spec.pod_uid == uid)
            .map(|sandbox| sandbox.id)
            .collect();
        self.start(uid, pod, sandboxes);
    }

    fn start(&mut self, uid: String, pod: Arc<Pod>, sandboxes: BTreeSet<SandboxId>) {
        let inbox = Arc::new(Inbox::default());
        let worker = Worker::new(self.context.clone(), inbox.clone(), pod.clone(), sandboxes);
        let task = self.tasks.spawn(worker.run());
        self.uids.insert(task.id(), uid.clone());
        let handle = Handle {
            inbox,
            pod,
            removed: false,
            task,
        };
        self.workers.insert(uid, handle);
    }

    fn remove(&mut self, uid: &str, last: Option<Arc<Pod>>) {
        if let Some(handle) = self.workers.get_mut(uid) {
            handle.removed = true;
            handle.inbox.put(Update::Removed(last));
        }
    }

    /// One that died is started anew: what it knew can be found out again.
    async fn worker_ended(&mut self, id: Id, died: Option<tokio::task::JoinError>) {
        let Some(uid) = self.uids.remove(&id) else {
            return;
        };
        let Some(handle) = self.workers.remove(&uid) else {
            return;
        };
        debug_assert_eq!(handle.task.id(), id);
        if let Some(error) = died {
            tracing::error!(pod = spec::name(&handle.pod), "worker died: {error}");
            self.begin(uid.clone(), handle.pod.clone()).await;
            if handle.removed {
                self.remove(&uid, None);
            }
        }
        // Another one of its name may wait.
        if is_static(&handle.pod) {
            self.start_static_pods().await;
            self.follow_mirror(&full_name(&handle.pod));
        }
    }

    fn wake(&self, uid: &str) {
        if let Some(handle) = self.workers.get(uid) {
            handle.inbox.wake();
        }
    }

    fn wake_all(&self) {
        for handle in self.workers.values() {
            handle.inbox.wake();
        }
    }
}

//! Keeps the graph fed: the shared informers' kinds through their listeners, every other kind the
//! server has through a watch of its own, metadata only.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::graph::{Graph, Identity, Uid};
use super::live::Live;
use crate::error::{Result, chain};
use crate::informer::{Change, Informer};
use crate::key::ObjectKind;
use crate::kinds::{Kind, Metadata, discover};
use crate::queue::Queue;

const RETRY: Duration = Duration::from_secs(1);
/// Kinds are looked for again only when an owner reference names an unknown one, and not more often.
const AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// The graph, and the queue of what in it is worth a look.
#[derive(Default)]
pub struct Feed {
    graph: Mutex<Graph>,
    pub queue: Arc<Queue<Uid>>,
}

impl Feed {
    pub fn graph<T>(&self, f: impl FnOnce(&mut Graph) -> T) -> T {
        f(&mut self.graph.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn tell(&self, kind: &ObjectKind, meta: &ObjectMeta, gone: bool) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let uid: Uid = text(&meta.uid).into();
        let look = self.graph(|graph| match gone {
            true => graph.remove(&uid),
            false => {
                let identity = Identity {
                    kind: kind.clone(),
                    namespace: text(&meta.namespace),
                    name: text(&meta.name),
                    uid: uid.clone(),
                };
                graph.apply(identity, meta)
            }
        });
        self.look(look);
    }

    pub fn look(&self, uids: Vec<Uid>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }
}

/// Hears of the metadata of every object of a kind, and whether it is gone.
pub type Listener = Arc<dyn Fn(&ObjectKind, &ObjectMeta, bool) + Send + Sync>;

pub struct Monitors {
    client: Client,
    live: Arc<Live>,
    listeners: Vec<Listener>,
    /// Kinds that have a watch already.
    watched: Mutex<HashSet<ObjectKind>>,
    refresh: Notify,
    synced: watch::Sender<bool>,
}

impl Monitors {
    /// `covered` kinds are told to the listeners by others.
    pub fn new(
        client: Client,
        live: Arc<Live>,
        listeners: Vec<Listener>,
        covered: Vec<ObjectKind>,
    ) -> Monitors {
        Monitors {
            client,
            live,
            listeners,
            watched: Mutex::new(covered.into_iter().collect()),
            refresh: Notify::new(),
            synced: watch::Sender::new(false),
        }
    }

    /// Some kind is missing.
    pub fn refresh(&self) {
        self.refresh.notify_one();
    }

    pub async fn wait_synced(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    pub async fn run(&self, shutdown: CancellationToken) {
        let mut watches = JoinSet::new();
        loop {
            let begun = Instant::now();
            let again = async {
                match self.begin(&mut watches, &shutdown).await {
                    Ok(()) => {
                        self.synced.send_replace(true);
                        self.refresh.notified().await;
                        tokio::time::sleep_until(begun + AT_MOST_EVERY).await;
                    }
                    Err(error) => {
                        warn!("garbage collector: {}", chain(&error));
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = again => {}
            }
        }
    }

    /// Begins a watch for every kind without one, and waits until they have seen what there is.
    async fn begin(&self, watches: &mut JoinSet<()>, shutdown: &CancellationToken) -> Result<()> {
        let kinds = discover(&self.client).await?;
        self.live.know(kinds.clone());
        let mut started = Vec::new();
        for kind in kinds.iter().filter(|kind| kind.is_collectable()) {
            let new = {
                let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                watched.insert(kind.id())
            };
            if new {
                let informer = Arc::new(self.informer(kind));
                started.push(informer.clone());
                let api: Api<Metadata> = kind.api(&self.client, "");
                let shutdown = shutdown.clone();
                watches.spawn(async move { informer.run(api, shutdown).await });
            }
        }
        for informer in started {
            informer.wait_synced().await;
        }
        Ok(())
    }

    fn informer(&self, kind: &Kind) -> Informer<Metadata> {
        let informer = Informer::default();
        for listener in &self.listeners {
            let (id, listener) = (kind.id(), listener.clone());
            informer.listen(move |change: &Change<Metadata>| {
                if let Some(object) = change.latest().filter(|_| change.is_about_life()) {
                    listener(&id, &object.metadata, change.new.is_none());
                }
            });
        }
        informer
    }
}

//! The garbage collector: objects whose owners are all gone go, too.
//!
//! [`graph`] notes who owns whom and which objects are worth a look; a look reads the object and
//! its owners from the server and [`decide`]s on what it finds. Deletions wait for dependents
//! (`foregroundDeletion`) or let go of them (`orphan`) through finalizers that are removed here.

mod decide;
mod graph;
mod live;
mod monitors;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use tokio_util::sync::CancellationToken;

use self::decide::{Action, Owner, decide};
use self::graph::{FOREGROUND, Identity, ORPHAN, Uid, View};
use self::live::{Live, Lookup, has_finalizer};
pub use self::monitors::Listener;
use self::monitors::{Feed, Monitors};
use crate::error::Result;
use crate::events::{Note, Recorder};
use crate::informers::Informers;
use crate::key::{is_deleted, namespace_of, uid_of};
use crate::kinds::{Kind, Metadata};
use crate::worker::{self, Next, Reconcile};

/// When to look again at an object whose owner is of a kind the server does not have.
const UNKNOWN_KIND: Duration = Duration::from_secs(60);

/// When to look again at what the graph does not know yet.
const BEHIND: Duration = Duration::from_millis(100);

pub struct GarbageCollector {
    events: Recorder,
    feed: Arc<Feed>,
    live: Arc<Live>,
    monitors: Monitors,
}

impl GarbageCollector {
    /// `listeners` hear of all objects, too.
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        mut listeners: Vec<Listener>,
    ) -> GarbageCollector {
        let feed = Arc::new(Feed::default());
        let own = feed.clone();
        listeners.push(Arc::new(move |kind, meta, gone| own.tell(kind, meta, gone)));
        let all = listeners.clone();
        let covered = informers.listen_metadata(move |kind, meta, gone| {
            all.iter().for_each(|listener| listener(kind, meta, gone));
        });
        let live = Arc::new(Live::new(client.clone()));
        GarbageCollector {
            events: events.of("garbage-collector-controller"),
            feed,
            live: live.clone(),
            monitors: Monitors::new(client, live, listeners, covered),
        }
    }

    /// Works when everything has been seen once: an owner not seen yet is not an absent one.
    pub async fn run(self, informers: Informers, shutdown: CancellationToken) {
        let collector = Arc::new(self);
        let working = {
            let (collector, shutdown) = (collector.clone(), shutdown.clone());
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = async {
                        informers.wait_synced().await;
                        collector.monitors.wait_synced().await;
                    } => {}
                }
                let queue = collector.feed.queue.clone();
                worker::run(collector, queue, shutdown).await;
            }
        };
        tokio::join!(collector.monitors.run(shutdown), working);
    }
}

fn blocks(dependent: &Metadata, owner: &Identity) -> bool {
    let mut references = dependent.metadata.owner_references.iter().flatten();
    references.any(|own| own.uid == *owner.uid && own.block_owner_deletion == Some(true))
}

impl Reconcile for GarbageCollector {
    type Key = Uid;

    const NAME: &'static str = "garbagecollector";
    const WORKERS: usize = 8;

    async fn reconcile(&self, uid: &Uid) -> Result<Next> {
        let Some(view) = self.feed.graph(|graph| graph.view(uid)) else {
            return Ok(Next::OnChange);
        };
        // It is on its way; what depends on it is looked at when it is gone.
        if view.deleted && !view.foreground && !view.orphans {
            return Ok(Next::OnChange);
        }
        let Some(kind) = self.live.kind(&view.identity.kind) else {
            self.monitors.refresh();
            return Ok(Next::After(UNKNOWN_KIND));
        };
        if kind.namespaced && view.identity.namespace.is_empty() {
            // Named by cluster-scoped objects: nothing that could be read, and they are told so.
            let look = self.feed.graph(|graph| graph.dependents_of(uid));
            self.feed.look(look);
            return Ok(Next::OnChange);
        }
        let Some(latest) = self.live.get(&kind, &view.identity).await? else {
            let look = self.feed.graph(|graph| match view.by_reference {
                true => graph.remove_absent(&view.identity),
                false => graph.remove(uid),
            });
            self.feed.look(look);
            return Ok(Next::OnChange);
        };
        if view.orphans && has_finalizer(&latest, ORPHAN) {
            self.orphan(&kind, &view.identity, &latest).await?;
            return Ok(Next::OnChange);
        }
        if view.foreground {
            return self
                .wait_for_dependents(&kind, &view.identity, &latest)
                .await;
        }
        if is_deleted(&latest) {
            return Ok(Next::OnChange);
        }
        // An owner known by reference is there: its own watch will tell more.
        match view.by_reference {
            true => Ok(Next::OnChange),
            false => self.collect(&kind, &view, &latest).await,
        }
    }
}

impl GarbageCollector {
    async fn collect(&self, kind: &Kind, view: &View, latest: &Metadata) -> Result<Next> {
        let references = latest
            .metadata
            .owner_references
            .as_deref()
            .unwrap_or_default();
        let mut owners = Vec::with_capacity(references.len());
        for reference in references {
            let namespace = namespace_of(latest);
            let known_gone = self
                .feed
                .graph(|graph| graph.is_absent(reference, namespace));
            let lookup = match known_gone {
                true => Lookup::Owner(Owner::Absent),
                false => self.live.owner(namespace, reference).await?,
            };
            match lookup {
                Lookup::Owner(owner) => owners.push((reference.clone(), owner)),
                Lookup::OutOfScope => {
                    self.tell_out_of_scope(kind, latest, reference);
                    owners.push((reference.clone(), Owner::Solid));
                }
                Lookup::UnknownKind => {
                    self.monitors.refresh();
                    return Ok(Next::After(UNKNOWN_KIND));
                }
            }
        }
        let finalizers = latest.metadata.finalizers.as_deref().unwrap_or_default();
        match decide(
            &owners,
            view.has_dependents,
            view.dependent_waits,
            finalizers,
        ) {
            Action::Keep => {}
            Action::Disown(gone) => {
                let mut kept = references.to_vec();
                kept.retain(|reference| !gone.contains(&reference.uid));
                self.live.write_owners(kind, latest, kept).await?;
            }
            Action::Delete {
                propagation,
                unblock: false,
            } => self.live.delete(kind, latest, propagation).await?,
            Action::Delete {
                propagation,
                unblock: true,
            } => {
                let mut owners = references.to_vec();
                for reference in &mut owners {
                    reference.block_owner_deletion = Some(false);
                }
                if let Some(now) = self.live.write_owners(kind, latest, owners).await? {
                    self.live.delete(kind, &now, propagation).await?;
                }
            }
        }
        Ok(Next::OnChange)
    }

    /// The owner may go when no dependent blocks it any more.
    async fn wait_for_dependents(
        &self,
        kind: &Kind,
        owner: &Identity,
        latest: &Metadata,
    ) -> Result<Next> {
        let blocking = self.feed.graph(|graph| graph.blocking(&owner.uid));
        if !blocking.is_empty() {
            let idle = blocking.into_iter().filter(|(_, waits)| !waits);
            self.feed.look(idle.map(|(uid, _)| uid).collect());
            return Ok(Next::OnChange);
        }
        if !has_finalizer(latest, FOREGROUND) {
            return Ok(Next::OnChange);
        }
        // A watch may be behind: the last word is the server's.
        let left = self.live.dependents(owner, kind.namespaced).await?;
        if left.iter().any(|(_, dependent)| blocks(dependent, owner)) {
            return Ok(Next::After(BEHIND));
        }
        self.live.remove_finalizer(kind, latest, FOREGROUND).await?;
        Ok(Next::OnChange)
    }

    async fn orphan(&self, kind: &Kind, identity: &Identity, latest: &Metadata) -> Result<()> {
        if !is_deleted(latest) {
            return Ok(());
        }
        for (kind, dependent) in self.live.dependents(identity, kind.namespaced).await? {
            let mut owners = dependent
                .metadata
                .owner_references
                .clone()
                .unwrap_or_default();
            owners.retain(|owner| owner.uid != uid_of(latest));
            self.live.write_owners(&kind, &dependent, owners).await?;
        }
        self.live.remove_finalizer(kind, latest, ORPHAN).await
    }

    fn tell_out_of_scope(&self, kind: &Kind, object: &Metadata, reference: &OwnerReference) {
        let about = ObjectReference {
            api_version: Some(kind.resource.api_version.clone()),
            kind: Some(kind.resource.kind.clone()),
            name: object.metadata.name.clone(),
            uid: object.metadata.uid.clone(),
            ..ObjectReference::default()
        };
        let message = format!(
            "cluster-scoped resources cannot have namespaced owners: {}/{}, name: {}, uid: {}",
            reference.api_version, reference.kind, reference.name, reference.uid
        );
        self.events
            .record_about(about, Note::warning("OwnerRefInvalidNamespace", message));
    }
}

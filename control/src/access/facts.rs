//! The pods and volumes a decision is about, and whether there are network policies, out of the API server's caches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vetch_server::Server;
use vetch_server::request::storage_prefix;
use vetch_server::status::Result;
use vetch_store::{Cache, Object, Store};

const ADMIN_GROUP: &str = "policy.networking.k8s.io";

/// What a decision may ask.
pub trait Facts {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All pods of a namespace.
    fn pods(&self, namespace: &str) -> Vec<Arc<Object>>;

    fn volume(&self, name: &str) -> Option<Arc<Object>>;

    /// Whether there is a NetworkPolicy anywhere, or one of an administrator's.
    fn has_policies(&self) -> bool;
}

/// The server's caches, which may be a moment behind etcd.
pub(super) struct Cached<'a> {
    store: &'a Store,
    cache: &'a Cache,
    prefix: String,
    volumes: (&'a Cache, String),
    policies: [(&'a Cache, String); 3],
    asked: AtomicBool,
    missed: AtomicBool,
}

impl<'a> Cached<'a> {
    pub(super) fn new(server: &'a Server) -> Result<Cached<'a>> {
        let row = server.row("", "pods")?;
        let volumes = server.row("", "persistentvolumes")?;
        let policies = |group, plural| -> Result<(&'a Cache, String)> {
            let row = server.row(group, plural)?;
            Ok((server.cache(row)?, storage_prefix(row)))
        };
        Ok(Cached {
            store: &server.store,
            cache: server.cache(row)?,
            prefix: storage_prefix(row),
            volumes: (server.cache(volumes)?, storage_prefix(volumes)),
            policies: [
                policies("networking.k8s.io", "networkpolicies")?,
                policies(ADMIN_GROUP, "adminnetworkpolicies")?,
                policies(ADMIN_GROUP, "baselineadminnetworkpolicies")?,
            ],
            asked: AtomicBool::new(false),
            missed: AtomicBool::new(false),
        })
    }

    /// Whether newer facts could turn the decision: what was asked spoke against it, or a pod was not there.
    pub(super) fn may_be_stale(&self, allowed: bool) -> bool {
        self.missed.load(Ordering::Relaxed) || (!allowed && self.asked.load(Ordering::Relaxed))
    }

    /// Waits until the caches have seen all that etcd has acknowledged.
    pub(super) async fn refresh(&self) -> std::result::Result<(), String> {
        let revision = self.store.current_revision().await;
        let revision = revision.map_err(|error| error.to_string())?;
        let policies = self.policies.iter().map(|(cache, _)| *cache);
        for cache in [self.cache, self.volumes.0].into_iter().chain(policies) {
            let reached = cache.wait_for(revision).await;
            reached.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Facts for Cached<'_> {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.asked.store(true, Ordering::Relaxed);
        let pod = self
            .cache
            .get(&format!("{}{namespace}/{name}", self.prefix));
        if pod.is_none() {
            self.missed.store(true, Ordering::Relaxed);
        }
        pod
    }

    fn pods(&self, namespace: &str) -> Vec<Arc<Object>> {
        self.asked.store(true, Ordering::Relaxed);
        let prefix = format!("{}{namespace}/", self.prefix);
        self.cache.list(&prefix).objects
    }

    fn volume(&self, name: &str) -> Option<Arc<Object>> {
        self.asked.store(true, Ordering::Relaxed);
        let (cache, prefix) = &self.volumes;
        let volume = cache.get(&format!("{prefix}{name}"));
        if volume.is_none() {
            self.missed.store(true, Ordering::Relaxed);
        }
        volume
    }

    fn has_policies(&self) -> bool {
        self.asked.store(true, Ordering::Relaxed);
        let mut kinds = self.policies.iter();
        kinds.any(|(cache, prefix)| cache.any(prefix))
    }
}

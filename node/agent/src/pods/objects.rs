//! ConfigMaps and Secrets that pods here refer to: one watch for each, shared
//! by all pods that use it, ended with the last of them.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::sources::Known;
use super::text::chain;

type Key = (String, String);

pub struct Objects<K> {
    client: Client,
    entries: Mutex<HashMap<Key, Weak<Entry<K>>>>,
}

struct Entry<K> {
    state: watch::Sender<Known<K>>,
    wakers: Mutex<Vec<Weak<Notify>>>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

/// Keeps the watch of one object.
pub struct Followed<K> {
    entry: Arc<Entry<K>>,
}

impl<K> Objects<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    pub fn new(client: Client) -> Objects<K> {
        Objects {
            client,
            entries: Mutex::default(),
        }
    }

    /// `waker` is notified whenever the object changes.
    pub fn follow(&self, namespace: &str, name: &str, waker: &Arc<Notify>) -> Followed<K> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        let entry = match entries.get(&key).and_then(Weak::upgrade) {
            Some(entry) => entry,
            None => {
                let entry = self.start(namespace, name);
                entries.insert(key, Arc::downgrade(&entry));
                entry
            }
        };
        let mut wakers = entry.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        wakers.retain(|waker| waker.strong_count() > 0);
        wakers.push(Arc::downgrade(waker));
        drop(wakers);
        Followed { entry }
    }

    fn start(&self, namespace: &str, name: &str) -> Arc<Entry<K>> {
        let entry = Arc::new(Entry {
            state: watch::Sender::new(Known::Unread),
            wakers: Mutex::default(),
            task: OnceLock::new(),
        });
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let task = tokio::spawn(run(api, name.to_owned(), Arc::downgrade(&entry)));
        // Just made: nobody else has set it.
        let _ = entry.task.set(AbortOnDropHandle::new(task));
        entry
    }
}

impl<K> Followed<K> {
    pub fn get(&self) -> Known<K> {
        self.entry.state.borrow().clone()
    }

    /// Waits for the first answer of the API server, at most so long.
    pub async fn read(&self, limit: Duration) -> Known<K> {
        let mut state = self.entry.state.subscribe();
        let known = state.wait_for(|known| matches!(known, Known::Present(_) | Known::Missing));
        // The sender lives in the entry we hold.
        let _ = tokio::time::timeout(limit, known).await;
        self.get()
    }
}

impl<K> Entry<K> {
    fn set(&self, known: Known<K>) {
        self.state.send_replace(known);
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in wakers.iter().filter_map(Weak::upgrade) {
            waker.notify_one();
        }
    }
}

async fn run<K>(api: Api<K>, name: String, entry: Weak<Entry<K>>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config).backoff(Pause::default()));
    let mut listed = None;
    while let Some(event) = events.next().await {
        let Some(entry) = entry.upgrade() else { return };
        match event {
            Ok(watcher::Event::Init) => listed = None,
            Ok(watcher::Event::InitApply(object)) => listed = Some(object),
            Ok(watcher::Event::InitDone) => entry.set(match listed.take() {
                Some(object) => Known::Present(Arc::new(object)),
                None => Known::Missing,
            }),
            Ok(watcher::Event::Apply(object)) => entry.set(Known::Present(Arc::new(object))),
            Ok(watcher::Event::Delete(_)) => entry.set(Known::Missing),
            Err(error) => {
                let words = chain(&error);
                tracing::debug!(kind = %K::kind(&()), name, "watch: {words}");
                let unread = matches!(*entry.state.borrow(), Known::Unread | Known::Unreadable(_));
                // What was read once stays good while the server is away.
                if unread {
                    entry.set(Known::Unreadable(words));
                }
            }
        }
    }
}

/// A pod waits for its first read, so the first pauses are short: a server
/// may learn a moment later than we do that the pod is ours.
#[derive(Debug)]
struct Pause(Duration);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(30);

impl Default for Pause {
    fn default() -> Pause {
        Pause(FIRST_PAUSE)
    }
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (self.0 * 2).min(LAST_PAUSE);
        Some(pause)
    }
}

impl kube::runtime::utils::Backoff for Pause {
    fn reset(&mut self) {
        *self = Pause::default();
    }
}

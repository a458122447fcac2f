//! The one list and the one watch on etcd that fill every cache.
//!
//! The watch covers etcd's whole key space, so every revision etcd gives out is seen here: a reader
//! that knows etcd's current revision only has to wait until the feed has passed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    EventType, GetOptions, KvClient, SortOrder, SortTarget, WatchClient, WatchOptions,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Error;
use crate::cache::{Cache, Change};
use crate::object::Object;
use crate::revision;
use crate::store::limited;

/// Keys read in one range request of the first list.
const PAGE: i64 = 5000;
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(crate) struct Feed {
    pub kv: KvClient,
    pub watch: WatchClient,
    /// Longest prefix first, so that a key finds the narrowest cache.
    pub caches: Vec<(String, Cache)>,
    pub revision: watch::Sender<i64>,
}

/// What the feed has and has not, across connections.
struct Progress {
    /// The caches hold a full list.
    listed: bool,
    connected: bool,
}

impl Feed {
    /// Follows etcd until told to stop; a lost connection is taken up where it was.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut progress = Progress {
            listed: false,
            connected: true,
        };
        loop {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.follow(&mut progress) => outcome,
            };
            if let Err(error) = outcome {
                let known = progress.listed;
                progress.listed &= !matches!(error, Error::Expired { .. });
                // Said once, not five times a second while etcd is away.
                if std::mem::take(&mut progress.connected) {
                    match known {
                        true => warn!("lost etcd, trying until it is back: {}", error.bottom()),
                        false => warn!(
                            "etcd cannot be read, trying until it can: {}",
                            error.bottom()
                        ),
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn follow(&mut self, progress: &mut Progress) -> Result<(), Error> {
        if !progress.listed {
            let revision = self.list().await?;
            info!(revision, "read etcd");
            progress.listed = true;
            self.revision.send_replace(revision);
        }
        let seen = *self.revision.borrow();
        let now = revision::read(&self.kv).await?;
        if now < seen {
            // Another etcd, or one restored from a backup: nothing known here holds any more.
            return Err(Error::Expired {
                requested: seen,
                oldest: now,
            });
        }
        let start = seen + 1;
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(start);
        let mut stream = limited(self.watch.watch("", Some(options))).await?;
        if !progress.connected {
            info!(revision = seen, "etcd is back");
            progress.connected = true;
        }
        while let Some(response) = stream.message().await? {
            if response.canceled() {
                // Compacted away while this process was cut off.
                let oldest = response.compact_revision();
                return Err(Error::Expired {
                    requested: start,
                    oldest,
                });
            }
            self.take(response.events());
        }
        Ok(())
    }

    /// etcd sends the events of one revision in one message, so what is announced is complete.
    fn take(&self, events: &[etcd_client::Event]) {
        let mut changes: Vec<Vec<Change>> = self.caches.iter().map(|_| Vec::new()).collect();
        let mut last = 0;
        for event in events {
            let Some(kv) = event.kv() else { continue };
            last = last.max(kv.mod_revision());
            let Ok(key) = kv.key_str() else { continue };
            let Some(at) = self
                .caches
                .iter()
                .position(|(prefix, _)| key.starts_with(prefix))
            else {
                continue;
            };
            let object = match event.event_type() {
                EventType::Delete => None,
                EventType::Put => match Object::parse(key, kv.value(), kv.mod_revision()) {
                    Ok(object) => Some(object),
                    Err(error) => {
                        warn!(%error, "left out");
                        continue;
                    }
                },
            };
            changes[at].push(Change {
                key: key.to_owned(),
                object,
                revision: kv.mod_revision(),
            });
        }
        for ((_, cache), changes) in self.caches.iter().zip(changes) {
            if !changes.is_empty() {
                cache.apply(changes);
            }
        }
        if last > 0 {
            self.revision.send_replace(last);
        }
    }

    /// Reads every cache's prefix at one revision.
    async fn list(&mut self) -> Result<i64, Error> {
        let mut revision = 0;
        for (prefix, cache) in self.caches.clone() {
            let end = range_end(&prefix);
            let mut from = prefix.clone().into_bytes();
            let mut objects: BTreeMap<String, Arc<Object>> = BTreeMap::new();
            loop {
                let mut options = GetOptions::new()
                    .with_range(end.clone())
                    .with_limit(PAGE)
                    .with_sort(SortTarget::Key, SortOrder::Ascend);
                if revision > 0 {
                    options = options.with_revision(revision);
                }
                let response = limited(self.kv.get(from.clone(), Some(options))).await?;
                if revision == 0 {
                    revision = response
                        .header()
                        .map_or(0, etcd_client::ResponseHeader::revision);
                }
                for kv in response.kvs() {
                    let key = String::from_utf8_lossy(kv.key()).into_owned();
                    match Object::parse(&key, kv.value(), kv.mod_revision()) {
                        Ok(object) => drop(objects.insert(key, object)),
                        Err(error) => warn!(%error, "left out"),
                    }
                }
                let Some(last) = response.kvs().last().filter(|_| response.more()) else {
                    break;
                };
                from = last.key().to_vec();
                from.push(0);
            }
            cache.reset(objects, revision);
        }
        Ok(revision)
    }
}

/// The first key after all keys with this prefix.
pub(crate) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // Prefixes end in '/', so the last byte never overflows.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

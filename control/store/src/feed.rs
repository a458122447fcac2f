//! The one list and the one watch on etcd that fill every cache.
//!
//! The watch covers etcd's whole key space, so every revision etcd gives out is seen here: a reader
//! that knows etcd's current revision only has to wait until the feed has passed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, EventType, GetOptions, SortOrder, SortTarget, WatchOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Error;
use crate::cache::Cache;
use crate::object::Object;

/// Keys read in one range request of the first list.
const PAGE: i64 = 5000;
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(crate) struct Feed {
    pub client: Client,
    /// Longest prefix first, so that a key finds the narrowest cache.
    pub caches: Vec<(String, Cache)>,
    pub revision: watch::Sender<i64>,
}

impl Feed {
    /// Follows etcd until told to stop; a lost connection is taken up where it was.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut listed = false;
        let mut told = false;
        loop {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.follow(&mut listed) => outcome,
            };
            match outcome {
                Err(Error::Expired { .. }) => listed = false,
                Err(error) if !told => {
                    told = true;
                    warn!(%error, cause = ?std::error::Error::source(&error).map(ToString::to_string), "lost etcd, trying again");
                }
                _ => {}
            }
            if listed {
                told = false;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RETRY_AFTER) => {}
            }
        }
    }

    async fn follow(&mut self, listed: &mut bool) -> Result<(), Error> {
        if !*listed {
            let revision = self.list().await?;
            info!(revision, "read etcd");
            *listed = true;
            self.revision.send_replace(revision);
        }
        let start = *self.revision.borrow() + 1;
        let options = WatchOptions::new()
            .with_all_keys()
            .with_start_revision(start);
        let mut stream = self.client.watch("", Some(options)).await?;
        while let Some(response) = stream.message().await? {
            if response.canceled() {
                // Compacted away while this process was cut off.
                let oldest = response.compact_revision();
                return Err(Error::Expired {
                    requested: start,
                    oldest,
                });
            }
            let mut last = 0;
            for event in response.events() {
                let Some(kv) = event.kv() else { continue };
                last = last.max(kv.mod_revision());
                self.take(event.event_type(), kv);
            }
            if last > 0 {
                self.revision.send_replace(last);
            }
        }
        Ok(())
    }

    fn take(&self, kind: EventType, kv: &etcd_client::KeyValue) {
        let Ok(key) = kv.key_str() else { return };
        let Some(cache) = self.cache(key) else { return };
        let change = match kind {
            EventType::Delete => None,
            EventType::Put => match Object::parse(key, kv.value(), kv.mod_revision()) {
                Ok(object) => Some(object),
                Err(error) => {
                    warn!(%error, "left out");
                    return;
                }
            },
        };
        cache.apply(key, change, kv.mod_revision());
    }

    fn cache(&self, key: &str) -> Option<&Cache> {
        self.caches
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix))
            .map(|(_, cache)| cache)
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
                let response = self.client.get(from.clone(), Some(options)).await?;
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
            cache.replace(objects, revision);
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

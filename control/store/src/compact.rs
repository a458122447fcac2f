//! Compaction: etcd, and the caches with it, forget what no client can ask for any more.

use std::time::Duration;

use etcd_client::{CompactionOptions, KvClient};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::cache::Cache;
use crate::store::limited;

/// kube-apiserver's --etcd-compaction-interval: what is older than this is given up.
const INTERVAL: Duration = Duration::from_secs(300);

pub(crate) async fn run(
    kv: KvClient,
    caches: Vec<Cache>,
    revision: watch::Receiver<i64>,
    shutdown: CancellationToken,
) {
    let mut before = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let now = *revision.borrow();
        if before > 0 && now > before {
            match limited(kv.clone().compact(before, Some(CompactionOptions::new()))).await {
                Ok(_) => debug!(revision = before, "compacted etcd"),
                // It is tried again with a later revision.
                Err(error) => debug!(%error, revision = before, "etcd was not compacted"),
            }
        }
        for cache in &caches {
            cache.forget(before);
        }
        before = now;
    }
}

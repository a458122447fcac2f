//! etcd leases for objects that end by themselves (events).

use std::time::{Duration, Instant};

use etcd_client::Client;
use tokio::sync::Mutex;

use crate::Error;
use crate::store::limited;

/// One lease serves all objects written within this time, so that a burst of events costs one
/// lease, not one each; an object lives that much longer at most.
const SHARED_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Option<Lease>>);

#[derive(Debug)]
struct Lease {
    id: i64,
    ttl: i64,
    granted: Instant,
}

impl Leases {
    /// A lease that ends no sooner than `ttl` seconds from now.
    pub async fn get(&self, client: &Client, ttl: i64) -> Result<i64, Error> {
        let mut current = self.0.lock().await;
        if let Some(lease) = current.as_ref()
            && lease.ttl == ttl
            && lease.granted.elapsed() < SHARED_FOR
        {
            return Ok(lease.id);
        }
        let seconds = ttl + SHARED_FOR.as_secs() as i64;
        let granted = limited(client.clone().lease_grant(seconds, None)).await?;
        let lease = Lease {
            id: granted.id(),
            ttl,
            granted: Instant::now(),
        };
        let id = lease.id;
        *current = Some(lease);
        Ok(id)
    }

    pub async fn forget(&self, id: i64) {
        self.0.lock().await.take_if(|lease| lease.id == id);
    }
}

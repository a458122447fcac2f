//! Reads and transactions on etcd.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KvClient, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse,
};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::cache::Cache;
use crate::compact;
use crate::feed::{Feed, range_end};
use crate::lease::Leases;
use crate::object::{Object, stored_bytes};
use crate::revision::Revisions;

/// etcd's own default request time limit is 5 s plus election time; a client is told sooner.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// As kube-apiserver's own client: a list of everything is one message, whatever its size.
const MESSAGE_LIMIT: usize = i32::MAX as usize;

/// What must be true of a key for a transaction to go through.
#[derive(Clone, Debug)]
pub enum Precondition {
    Absent(String),
    /// The key's mod_revision.
    At(String, i64),
}

/// One effect of a transaction.
#[derive(Clone, Debug)]
pub enum Write {
    Put(String, Value),
    Delete(String),
}

/// The door to etcd. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    client: Client,
    kv: KvClient,
    caches: Arc<HashMap<String, Cache>>,
    revision: watch::Receiver<i64>,
    revisions: Revisions,
    leases: Arc<Leases>,
}

impl Store {
    /// Connects lazily, and starts the feed for these prefixes (each ending in `/`).
    pub async fn open(
        endpoints: &[String],
        prefixes: &[String],
        shutdown: CancellationToken,
    ) -> Result<Store, Error> {
        let options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(2))
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_tcp_keepalive(Duration::from_secs(10));
        let client = Client::connect(endpoints, Some(options)).await?;
        let (sender, revision) = watch::channel(0);
        let caches: HashMap<String, Cache> = prefixes
            .iter()
            .map(|prefix| (prefix.clone(), Cache::new(revision.clone())))
            .collect();
        let mut ordered: Vec<(String, Cache)> = caches
            .iter()
            .map(|(prefix, cache)| (prefix.clone(), cache.clone()))
            .collect();
        ordered.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let kv = client.kv_client().max_decoding_message_size(MESSAGE_LIMIT);
        let watch = client
            .watch_client()
            .max_decoding_message_size(MESSAGE_LIMIT);
        let feed = Feed {
            kv: kv.clone(),
            watch,
            caches: ordered,
            revision: sender,
        };
        tokio::spawn(feed.run(shutdown.clone()));
        let all = caches.values().cloned().collect();
        tokio::spawn(compact::run(kv.clone(), all, revision.clone(), shutdown));
        Ok(Store {
            revisions: Revisions::new(kv.clone()),
            client,
            kv,
            caches: Arc::new(caches),
            revision,
            leases: Arc::default(),
        })
    }

    /// Waits until the caches have read etcd once.
    pub async fn ready(&self) {
        let mut revision = self.revision.clone();
        // The sender lives as long as the process; an error means shutdown.
        let _ = revision.wait_for(|now| *now > 0).await;
    }

    pub fn is_ready(&self) -> bool {
        *self.revision.borrow() > 0
    }

    pub fn cache(&self, prefix: &str) -> Option<&Cache> {
        self.caches.get(prefix)
    }

    /// etcd's current revision, by a linearizable read: everything acknowledged is at or below it.
    pub async fn current_revision(&self) -> Result<i64, Error> {
        self.revisions.current().await
    }

    /// The object as etcd has it now.
    pub async fn get(&self, key: &str) -> Result<Option<Arc<Object>>, Error> {
        let response = limited(self.kv.clone().get(key, None)).await?;
        response
            .kvs()
            .first()
            .map(|kv| self.known_or_parsed(key, kv))
            .transpose()
    }

    /// At most `limit` (0: all) objects below `prefix` from key `start` on, as they were at `revision`, and how many
    /// there are from `start` on.
    pub async fn list_at(
        &self,
        prefix: &str,
        start: &str,
        revision: i64,
        limit: usize,
    ) -> Result<(Vec<Arc<Object>>, usize), Error> {
        let options = GetOptions::new()
            .with_range(range_end(prefix))
            .with_revision(revision)
            .with_limit(limit as i64)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        let response = limited(self.kv.clone().get(start, Some(options)))
            .await
            .map_err(|error| past_or_future(error, revision))?;
        let objects = response
            .kvs()
            .iter()
            .map(|kv| self.known_or_parsed(&String::from_utf8_lossy(kv.key()), kv))
            .collect::<Result<_, _>>()?;
        Ok((objects, response.count() as usize))
    }

    /// Spares the parsing where the cache already has this very revision.
    fn known_or_parsed(&self, key: &str, kv: &etcd_client::KeyValue) -> Result<Arc<Object>, Error> {
        let known = self
            .caches
            .iter()
            .find(|(prefix, _)| key.starts_with(prefix.as_str()))
            .and_then(|(_, cache)| cache.get(key))
            .filter(|object| object.revision == kv.mod_revision());
        match known {
            Some(object) => Ok(object),
            None => Object::parse(key, kv.value(), kv.mod_revision()),
        }
    }

    pub async fn create(&self, key: &str, value: Value) -> Result<Arc<Object>, Error> {
        let conditions = [Precondition::Absent(key.to_owned())];
        let revision = self
            .commit(&conditions, &[Write::Put(key.to_owned(), value.clone())])
            .await?;
        Ok(Object::new(key.to_owned(), value, revision))
    }

    pub async fn update(&self, key: &str, value: Value, at: i64) -> Result<Arc<Object>, Error> {
        let conditions = [Precondition::At(key.to_owned(), at)];
        let revision = self
            .commit(&conditions, &[Write::Put(key.to_owned(), value.clone())])
            .await?;
        Ok(Object::new(key.to_owned(), value, revision))
    }

    pub async fn delete(&self, key: &str, at: i64) -> Result<i64, Error> {
        self.commit(
            &[Precondition::At(key.to_owned(), at)],
            &[Write::Delete(key.to_owned())],
        )
        .await
    }

    /// All writes or none, if every precondition holds. Answers with the revision of the writes.
    pub async fn commit(
        &self,
        conditions: &[Precondition],
        writes: &[Write],
    ) -> Result<i64, Error> {
        self.commit_for(conditions, writes, None).await
    }

    /// As [`Store::commit`]; what is put lives for `ttl` seconds where one is given.
    pub async fn commit_for(
        &self,
        conditions: &[Precondition],
        writes: &[Write],
        ttl: Option<i64>,
    ) -> Result<i64, Error> {
        let Some(seconds) = ttl else {
            return self.transaction(conditions, writes, None).await;
        };
        let lease = self.leases.get(&self.client, seconds).await?;
        match self.transaction(conditions, writes, Some(lease)).await {
            // etcd was restored, or lost the lease while it was away: nothing was written.
            Err(Error::Unavailable(cause))
                if cause.to_string().contains("requested lease not found") =>
            {
                self.leases.forget(lease).await;
                let lease = self.leases.get(&self.client, seconds).await?;
                self.transaction(conditions, writes, Some(lease)).await
            }
            outcome => outcome,
        }
    }

    async fn transaction(
        &self,
        conditions: &[Precondition],
        writes: &[Write],
        lease: Option<i64>,
    ) -> Result<i64, Error> {
        let put = lease.map(|id| PutOptions::new().with_lease(id));
        let compares: Vec<Compare> = conditions
            .iter()
            .map(|condition| match condition {
                Precondition::Absent(key) => {
                    Compare::create_revision(key.as_str(), CompareOp::Equal, 0)
                }
                Precondition::At(key, revision) => {
                    Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision)
                }
            })
            .collect();
        let effects: Vec<TxnOp> = writes
            .iter()
            .map(|write| match write {
                Write::Put(key, value) => {
                    TxnOp::put(key.as_str(), stored_bytes(value), put.clone())
                }
                Write::Delete(key) => TxnOp::delete(key.as_str(), None),
            })
            .collect();
        // Where it does not hold, the keys' present state tells which condition failed.
        let otherwise: Vec<TxnOp> = conditions
            .iter()
            .map(|condition| {
                let (Precondition::Absent(key) | Precondition::At(key, _)) = condition;
                TxnOp::get(key.as_str(), Some(GetOptions::new().with_keys_only()))
            })
            .collect();
        let txn = Txn::new()
            .when(compares)
            .and_then(effects)
            .or_else(otherwise);
        let response = limited(self.kv.clone().txn(txn)).await?;
        if response.succeeded() {
            return Ok(response
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision));
        }
        Err(failed_condition(conditions, &response.op_responses()))
    }
}

/// etcd refuses revisions it has compacted away or has not reached; clients act on the difference.
fn past_or_future(error: Error, requested: i64) -> Error {
    let text = match &error {
        Error::Unavailable(cause) => cause.to_string(),
        _ => return error,
    };
    if text.contains("compacted") {
        return Error::Expired {
            requested,
            oldest: requested + 1,
        };
    }
    if text.contains("future revision") {
        return Error::Future {
            requested,
            current: 0,
        };
    }
    error
}

fn failed_condition(conditions: &[Precondition], present: &[TxnOpResponse]) -> Error {
    for (condition, response) in conditions.iter().zip(present) {
        let TxnOpResponse::Get(response) = response else {
            continue;
        };
        let found = response
            .kvs()
            .first()
            .map(etcd_client::KeyValue::mod_revision);
        match (condition, found) {
            (Precondition::Absent(key), Some(_)) => return Error::Exists { key: key.clone() },
            (Precondition::At(key, _), None) => return Error::NotFound { key: key.clone() },
            (Precondition::At(key, at), Some(now)) if *at != now => {
                return Error::Conflict { key: key.clone() };
            }
            _ => {}
        }
    }
    Error::Conflict { key: String::new() }
}

pub(crate) async fn limited<T>(
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
            Err(Error::Unavailable(Arc::new(etcd_client::Error::IoError(
                cause,
            ))))
        }
    }
}

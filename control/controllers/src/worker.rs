//! Runs a reconciler over a queue: no input but a key, retried until it succeeds.

use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::error::{Result, chain};
use crate::queue::Queue;

/// When to look again without being told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    OnChange,
    After(Duration),
}

impl Next {
    pub fn at_most(self, delay: Option<Duration>) -> Next {
        match (self, delay) {
            (Next::After(own), Some(other)) => Next::After(own.min(other)),
            (Next::OnChange, Some(other)) => Next::After(other),
            (next, None) => next,
        }
    }
}

pub trait Reconcile: Send + Sync + 'static {
    /// What is reconciled: an object, mostly.
    type Key: Clone + Eq + Hash + Ord + Display + Send + Sync + 'static;

    const NAME: &'static str;
    /// Keys of one reconciler that may be worked on at once.
    const WORKERS: usize = 4;

    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Next>> + Send;
}

/// Works the queue off until shutdown.
pub async fn run<R: Reconcile>(
    reconciler: Arc<R>,
    queue: Arc<Queue<R::Key>>,
    shutdown: CancellationToken,
) {
    let mut workers = JoinSet::new();
    for _ in 0..R::WORKERS {
        workers.spawn(work(reconciler.clone(), queue.clone(), shutdown.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn work<R: Reconcile>(
    reconciler: Arc<R>,
    queue: Arc<Queue<R::Key>>,
    shutdown: CancellationToken,
) {
    loop {
        let key = tokio::select! {
            () = shutdown.cancelled() => return,
            key = queue.next() => key,
        };
        match reconciler.reconcile(&key).await {
            Ok(next) => {
                queue.forget(&key);
                if let Next::After(delay) = next {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                if error.is_conflict() || error.is_not_found() {
                    debug!(controller = R::NAME, %key, "again: {}", chain(&error));
                } else {
                    warn!(controller = R::NAME, %key, "{}", chain(&error));
                }
                queue.retry(key.clone());
            }
        }
        queue.done(&key);
    }
}

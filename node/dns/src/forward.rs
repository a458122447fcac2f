//! Questions about what is not the cluster's, asked of other servers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use hickory_proto::op::{Message, ResponseCode};
use tokio::sync::Semaphore;
use tracing::debug;

use crate::{
    cache::{Cache, Question, aged, holds},
    metrics::Metrics,
};

mod exchange;
mod resolv_conf;
mod routes;

pub use resolv_conf::{PATH as RESOLV_CONF, follow};
pub use routes::{Routes, Server};

/// Questions under way at others; CoreDNS' forward has a limit of 1000 as kubeadm sets it up.
const MOST_AT_ONCE: usize = 512;
const CACHED: usize = 10_000;
const CACHED_BYTES: usize = 16 << 20;
/// Resolvers of pods ask again after five seconds.
const LIMIT: Duration = Duration::from_millis(4500);

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    #[error("no server is known for it: see --dns-upstream")]
    NoServer,
    #[error("too many questions are under way")]
    Busy,
    #[error("no server answered in {LIMIT:?}")]
    Silence,
    #[error("asking died")]
    Died,
}

type Answered = Result<Arc<Message>, Failure>;
type Flight = Shared<BoxFuture<'static, Answered>>;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Forwarder {
    inner: Arc<Inner>,
}

struct Inner {
    routes: Routes,
    cache: Mutex<Cache>,
    /// What is being asked. Who asks the same waits for the same answer: so a
    /// loop of servers, by which a question comes back here, costs one question.
    flights: Mutex<HashMap<Question, Flight>>,
    permits: Arc<Semaphore>,
    metrics: Metrics,
    /// An address that must not be asked, because this server is there.
    is_own: Box<dyn Fn(SocketAddr) -> bool + Send + Sync>,
}

impl Forwarder {
    pub fn new(
        routes: Routes,
        metrics: Metrics,
        is_own: impl Fn(SocketAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            routes,
            cache: Mutex::new(Cache::new(CACHED, CACHED_BYTES)),
            flights: Mutex::default(),
            permits: Arc::new(Semaphore::new(MOST_AT_ONCE)),
            metrics,
            is_own: Box::new(is_own),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub fn routes(&self) -> &Routes {
        &self.inner.routes
    }

    pub fn cached(&self, question: &Question) -> Option<Message> {
        let found = lock(&self.inner.cache).get(question, Instant::now());
        let (bytes, age) = found?;
        let message = Message::from_vec(&bytes).ok()?;
        Some(aged(message, age))
    }

    /// Asks, whatever is cached.
    pub async fn ask(&self, question: &Question) -> Answered {
        self.flight(question)?.await
    }

    fn flight(&self, question: &Question) -> Result<Flight, Failure> {
        let mut flights = lock(&self.inner.flights);
        if let Some(flight) = flights.get(question) {
            return Ok(flight.clone());
        }
        let permit = Arc::clone(&self.inner.permits).try_acquire_owned();
        let permit = permit.map_err(|_| {
            self.inner.metrics.rejected.inc();
            Failure::Busy
        })?;
        let landing = Landing {
            inner: Arc::clone(&self.inner),
            question: question.clone(),
        };
        // Of its own, so that it ends and is cached whoever waits for it.
        let task = tokio::spawn(async move {
            let fetching = landing.inner.fetch(&landing.question);
            let answered = tokio::time::timeout(LIMIT, fetching).await;
            drop((landing, permit));
            answered.unwrap_or(Err(Failure::Silence))
        });
        let flight = async move { task.await.unwrap_or(Err(Failure::Died)) };
        let flight = flight.boxed().shared();
        flights.insert(question.clone(), flight.clone());
        Ok(flight)
    }
}

/// Nobody joins what is over, however it ended.
struct Landing {
    inner: Arc<Inner>,
    question: Question,
}

impl Drop for Landing {
    fn drop(&mut self) {
        lock(&self.inner.flights).remove(&self.question);
    }
}

impl Inner {
    async fn fetch(&self, question: &Question) -> Answered {
        let servers = self.routes.of(&question.name, Instant::now());
        let servers: Vec<Arc<Server>> = servers
            .into_iter()
            .filter(|server| !(self.is_own)(server.address))
            .collect();
        if servers.is_empty() {
            return Err(Failure::NoServer);
        }
        let mut last = None;
        // Each in turn, and once more: a packet may have been lost.
        for server in servers.iter().chain(&servers) {
            let begun = Instant::now();
            let answered = exchange::ask(server.address, question).await;
            let (message, bytes) = match answered {
                Ok(answered) => answered,
                Err(error) => {
                    debug!(server = %server.address, name = %question.name, %error, "no answer");
                    server.has_failed(Instant::now());
                    self.metrics.upstream_failed(server.address);
                    continue;
                }
            };
            let code = message.metadata.response_code;
            self.metrics.upstream(server.address, code, begun.elapsed());
            server.has_answered();
            if matches!(code, ResponseCode::ServFail | ResponseCode::Refused) {
                // Another may know better.
                let known = last.replace(Arc::new(message));
                if known.is_some() {
                    break;
                }
                continue;
            }
            if let Some(holds) = holds(&message) {
                let mut cache = lock(&self.cache);
                cache.put(question.clone(), &bytes, holds, Instant::now());
                self.metrics.cache_entries(cache.len());
            }
            return Ok(Arc::new(message));
        }
        last.ok_or(Failure::Silence)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

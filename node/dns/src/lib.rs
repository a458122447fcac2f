//! Cluster DNS of one node: the cluster's names from what the service proxy
//! watches, everything else from the servers that the node has.
//!
//! [`Dns`] is told of Services and EndpointSlices and serves what they make.
//! `answer` decides without touching anything; `forward` asks others, `server`
//! has the sockets. The wire format is hickory-proto's; the sockets are ours,
//! because hickory-server starts a task for every packet and connection without
//! a bound, in a process that has the node's pods to look after.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{join, join_all},
};
use hickory_proto::{ProtoError, rr::Name};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

mod answer;
mod cache;
mod forward;
mod key;
mod message;
mod metrics;
mod mirror;
mod namespaces;
mod question;
mod records;
mod resolve;
mod server;
mod shares;
#[cfg(test)]
mod testing;
mod zone;

pub use forward::RESOLV_CONF;
pub use server::{Bind, IsClient, bind};

use forward::{Forwarder, Routes};
use key::Key;
use metrics::Metrics;
use records::Records;
use resolve::Resolver;
use server::Server;
use zone::Zone;

#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// `cluster.local`
    pub domain: String,
    /// Namespace and name of the Service by which clients reach this server.
    pub service: (String, String),
    /// Addresses of the node, one a family at most.
    pub listen: Vec<SocketAddr>,
    /// Asked about all other names; empty for the servers of `resolv_conf`.
    pub upstreams: Vec<SocketAddr>,
    /// Asked about names of their domains.
    pub domain_upstreams: Vec<(String, Vec<SocketAddr>)>,
    pub resolv_conf: PathBuf,
    /// How long questions wait in the sockets' queues until names and clients are known, from
    /// the start on. Then they are answered by failures, and other names are looked up.
    pub patience: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{domain:?} is no domain: {source}")]
    Domain { domain: String, source: ProtoError },
}

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Dns {
    config: Arc<DnsConfig>,
    records: Arc<RwLock<Records>>,
    /// After each change of the records.
    changed: Arc<Notify>,
    resolver: Resolver,
    metrics: Metrics,
}

impl Dns {
    pub fn new(config: DnsConfig) -> Result<Self, Error> {
        let failed = |domain: &str| {
            let domain = domain.to_owned();
            move |source| Error::Domain { domain, source }
        };
        let zone = Zone::new(&config.domain).map_err(failed(&config.domain))?;
        let domains: Result<Vec<_>, Error> = config
            .domain_upstreams
            .iter()
            .map(|(domain, servers)| {
                let mut name = Name::from_ascii(domain).map_err(failed(domain))?;
                name.set_fqdn(true);
                Ok((name, servers.clone()))
            })
            .collect();
        let routes = Routes::new(&domains?, &config.upstreams);
        let records: Arc<RwLock<Records>> = Arc::default();
        let metrics = Metrics::default();
        let (known, own) = (Arc::clone(&records), config.listen.clone());
        let service = Key::new(&config.service.0, &config.service.1);
        let reached_by = service.clone();
        let is_own = move |address: SocketAddr| {
            let records = known.read().unwrap_or_else(PoisonError::into_inner);
            own.contains(&address)
                || records
                    .with_cluster_ip(address.ip())
                    .is_some_and(|key| *key == reached_by)
        };
        let resolver = Resolver {
            records: Arc::clone(&records),
            zone: Arc::new(zone),
            service,
            forwarder: Forwarder::new(routes, metrics.clone(), is_own),
            metrics: metrics.clone(),
        };
        Ok(Self {
            config: Arc::new(config),
            records,
            changed: Arc::default(),
            resolver,
            metrics,
        })
    }

    pub fn service(&self, event: &Event<Service>) {
        self.write().service(event);
        self.changed.notify_one();
    }

    pub fn slice(&self, event: &Event<EndpointSlice>) {
        self.write().slice(event);
        self.changed.notify_one();
    }

    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Serves until `shutdown`. `bind` opens its sockets, in the network namespace of the
    /// runtime's threads if it is [`bind`]. `is_client` says which addresses are pods of this node,
    /// from when `clients_known` has ended.
    pub async fn run(
        &self,
        client: kube::Client,
        is_client: IsClient,
        clients_known: impl Future<Output = ()> + Send,
        bind: Bind,
        shutdown: CancellationToken,
    ) {
        let server = Server::new(self.resolver.clone(), &self.config.listen, is_client);
        let ready = join(self.complete(), clients_known);
        let ready = timeout(self.config.patience, ready)
            .map(drop)
            .boxed()
            .shared();
        let listen = self.config.listen.iter();
        let serving = join_all(listen.map(|address| {
            server::serve(server.clone(), *address, Arc::clone(&bind), ready.clone())
        }));
        let serving = async {
            serving.await;
            // Without any address there is nothing to do.
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            never = serving => match never {},
            never = namespaces::follow(client, &self.records, &self.changed) => match never {},
            never = self.follow_upstreams() => match never {},
        }
    }

    async fn complete(&self) {
        while !self.read().is_complete() {
            self.changed.notified().await;
        }
    }

    async fn follow_upstreams(&self) -> Infallible {
        match self.config.upstreams.is_empty() {
            true => forward::follow(&self.config.resolv_conf, &self.resolver.forwarder).await,
            false => std::future::pending().await,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Records> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }
}
